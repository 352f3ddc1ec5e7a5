"""What leaves the testbed: a sweep as one archive, a run as a model of transformers."""
