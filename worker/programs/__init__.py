"""What needs TensorFlow and is asked for at the command line, each a program of its own."""
