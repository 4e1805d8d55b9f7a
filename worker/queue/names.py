"""Names of queues and tasks, for those who need no Celery: it takes a while to import."""

EXPLAIN_QUEUE = "explain"
TRAIN_QUEUE = "train"
QUEUES = (EXPLAIN_QUEUE, TRAIN_QUEUE)

EXPLAIN_CHUNK = "xraycam.explain_chunk"
TRAIN = "xraycam.train"
