"""Files that are no weights of torch or safetensors: what they are, and what to pass instead."""

import zipfile
from pathlib import Path

_SAVE = "save model.state_dict() with torch.save and pass that file"
_CONVERT = "convert its weights to safetensors, by the names that they have in torch"
_NAMED_BY_END = {
    (".onnx",): f"an ONNX graph: load the model that it was exported from in torch, and {_SAVE}",
    (".pb", ".tflite", ".index", ".meta"): f"a file of TensorFlow: {_CONVERT}",
    (".h5", ".hdf5", ".keras"): f"a file of Keras: {_CONVERT}",
    (".msgpack",): f"a file of Flax: {_CONVERT}",
    (".npz", ".npy"): f"a file of numpy: {_CONVERT}",
    (".gguf", ".ggml"): "a file of llama.cpp: pass the model that it was made from",
    (".pt2",): f"a program of torch.export: load it with torch.export.load, and {_SAVE}",
    (".distcp",): "one part of a checkpoint of torch.distributed.checkpoint: pass its directory",
    (".index.json",): "an index of weights, but lists none: copy it again",
}
_NAMED_BY_START = {
    (b"\x89HDF",): f"a file of Keras or HDF5: {_CONVERT}",
    (b"GGUF",): "a file of llama.cpp: pass the model that it was made from",
    (b"\x93NUMPY",): f"a file of numpy: {_CONVERT}",
    (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"): "compressed: unpack it and pass the file in it",
    (b"version https://git-lfs",): "a pointer of Git LFS: run `git lfs pull`",
    (b"<!DOCTYPE", b"<html"): "a web page: download the file again",
}
_NAMED_BY_MEMBER = {
    ("constants.pkl",): f"a program of TorchScript: load it with torch.jit.load, and {_SAVE}",
    ("archive_format", "serialized_exported_program.json"): (
        f"a program of torch.export: load it with torch.export.load, and {_SAVE}"
    ),
    (".npy",): f"an archive of numpy: {_CONVERT}",
    ("model.weights.h5",): f"a file of Keras: {_CONVERT}",
}
_TAR = (257, b"ustar")


def kind_of(path: Path) -> str | None:
    """Return what a file is that is no checkpoint, and what to do, as the end of a sentence, if that can be told."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(_TAR[1], _TAR[0]):
        return (
            "a tar archive: unpack it and pass the file in it, or, if torch before 0.1.10 wrote it, save it again with "
            "a newer torch"
        )
    if start[8:9] == b"{" and start[6:8] == b"\0\0":  # behind the length of the header
        return "a file of safetensors: let its name end in .safetensors"
    for starts, kind in _NAMED_BY_START.items():
        if start.startswith(starts):
            return kind
    for ends, kind in _NAMED_BY_END.items():
        if path.name.lower().endswith(ends):
            return kind
    return _kind_of_zip(path)


def _kind_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # a damaged file can fail in any way
        return None
    return next((kind for ends, kind in _NAMED_BY_MEMBER.items() if any(name.endswith(ends) for name in names)), None)
