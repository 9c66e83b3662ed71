"""Prints the tensors of a file, as `torch.load` opens it without running code: type, shape and values by name, as JSON.

    torch_load.py FILE
"""

import json
import sys

import torch

found = torch.load(sys.argv[1], weights_only=True, mmap=True)
tensors = {name: [str(tensor.dtype), list(tensor.shape), tensor.flatten().tolist()] for name, tensor in found.items()}
print(json.dumps(tensors))
