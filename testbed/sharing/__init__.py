"""Takes results out of the testbed: a sweep as one archive, a run as a model folder of transformers."""
