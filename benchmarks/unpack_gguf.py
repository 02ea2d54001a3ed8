"""Unpack the weights of a GGUF file to float32, so that a server computes with the same weights as `transformers`.

python benchmarks/unpack_gguf.py SOURCE.gguf TARGET.gguf
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def main(source: str, target: str) -> None:
    """Copy all keys, and all tensors in float32."""
    import gguf

    reader: Any = gguf.GGUFReader(source)
    writer: Any = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue  # written by the writer itself
        kind, *inner = field.types
        value = 0 if name == "general.file_type" else field.contents()  # 0: all float32
        writer.add_key_value(name, value, kind, sub_type=inner[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, np.ascontiguousarray(data.reshape([int(size) for size in tensor.shape[::-1]])))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
