"""What disks and kills do to files."""


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, where=None):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4 if where is None else where] ^= 4
    path.write_bytes(bytes(content))


def empty(path):
    path.write_bytes(b"")
