"""Settings of data made of text files."""

from testbed.config import Data


def text_data(folder, **changes):
    return Data(**{"source": f"text:{folder}", "seq_len": 64, "val_windows": 64} | changes)
