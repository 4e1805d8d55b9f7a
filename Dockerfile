# One image for every role: command line, worker, trainer, Flower.
#   docker build --tag xraycam:cpu .
#   docker build --tag xraycam:gpu --build-arg ACCELERATOR=gpu .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# cpu, or gpu: with NVIDIA's CUDA libraries (the driver comes from the host).
ARG ACCELERATOR=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/xraycam
ENV PATH=/opt/xraycam/bin:$PATH
# The locks alone decide this layer, so a change of code does not install TensorFlow again.
COPY requirements.lock requirements-gpu.lock ./
RUN case "$ACCELERATOR" in \
      cpu) lock=requirements.lock ;; \
      gpu) lock=requirements-gpu.lock ;; \
      *) echo "ACCELERATOR=$ACCELERATOR: give cpu or gpu" >&2; exit 2 ;; \
    esac \
    && pip install --require-hashes --only-binary :all: --requirement "$lock"
COPY pyproject.toml README.md LICENSE ./
COPY db db
COPY producer producer
COPY worker worker
# The build tool is in the lock too: nothing is fetched here.
RUN pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim
ARG UID=1000
ARG GID=1000
# Any numbers will do, also those that the system gave to others (20 is dialout, 100 is users): a name is made
# where there is none. --no-log-init: the log of logins is a file as long as the highest number.
# The program needs no name: `docker run --user` may give other numbers, who can then write to /var/lib/flower.
RUN set -eu; \
    getent group "$GID" > /dev/null || groupadd --gid "$GID" xraycam; \
    getent passwd "$UID" > /dev/null \
      || useradd --no-log-init --uid "$UID" --gid "$GID" --no-create-home --home-dir /tmp \
           --shell /usr/sbin/nologin xraycam; \
    install --directory --mode 0750 --owner "$UID" --group "$GID" /data /images; \
    install --directory --mode 1777 /var/lib/flower
COPY --from=build /opt/xraycam /opt/xraycam
ENV PATH=/opt/xraycam/bin:$PATH \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XRAYCAM_HOME=/data \
    KERAS_HOME=/data/keras \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=void \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /data
USER $UID:$GID
ENTRYPOINT ["xraycam"]
CMD ["--help"]
