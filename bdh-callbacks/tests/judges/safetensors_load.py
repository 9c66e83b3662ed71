"""Prints the shape and the values of each tensor of a file, as Python's safetensors reads them."""

import json
import sys

from safetensors.numpy import load_file

tensors = load_file(sys.argv[1])
print(json.dumps({name: [list(t.shape), t.flatten().tolist()] for name, t in tensors.items()}))
