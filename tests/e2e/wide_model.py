"""weir-tiny with experts of any size: a checkpoint large enough to tell memory and copies apart, written without torch."""
import json
import math
import os
import struct

from weir_server import MODEL, altered_model

# Second bytes of small BF16 numbers: +-2^-7 … +-2^-6.
SIGNS = bytes(0x3C if byte < 128 else 0xBC for byte in range(256))


def small_numbers(count):
    numbers = bytearray(2 * count)
    numbers[0::2] = os.urandom(count)
    numbers[1::2] = os.urandom(count).translate(SIGNS)
    return bytes(numbers)


def read_safetensors(path):
    """name -> (dtype, shape, bytes)."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    data = content[8 + length :]
    entries = {name: entry for name, entry in json.loads(content[8 : 8 + length]).items() if name != "__metadata__"}
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in entries.items()}


def write_safetensors(path, tensors):
    header, end = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(data for *_, data in tensors.values())


def wide_model(directory, experts=64, width=512):
    """The routed experts are random, `experts` of `width` to a layer; there is no draft head. 2 * 3 * 128 * experts * width bytes a layer."""
    shapes = {".mlp.experts.gate_up_proj": [experts, 2 * width, 128], ".mlp.experts.down_proj": [experts, 128, width], ".mlp.gate.weight": [experts, 128]}
    tensors = {}
    for name, tensor in read_safetensors(MODEL / "model.safetensors").items():
        if name.startswith("mtp."):
            continue
        for end, wide in shapes.items():
            if name.endswith(end):
                tensor = ("BF16", wide, small_numbers(math.prod(wide)))
        tensors[name] = tensor
    config = json.loads((MODEL / "config.json").read_text())
    config["text_config"] |= {"num_experts": experts, "moe_intermediate_size": width, "mtp_num_hidden_layers": 0}
    altered_model(directory, config__json=json.dumps(config), model__safetensors=None)
    write_safetensors(directory / "model.safetensors", tensors)
    return directory
