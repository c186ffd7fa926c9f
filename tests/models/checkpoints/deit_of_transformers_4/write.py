"""Write a tiny DeiT and what transformers makes of one image: ``pip install torch transformers==4.57.6``, then run."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import DeiTConfig, DeiTForMaskedImageModeling

HERE = Path(__file__).parent
SIZES: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

if __name__ == "__main__":
    torch.manual_seed(0)
    model = DeiTForMaskedImageModeling(DeiTConfig(**SIZES, image_size=8, patch_size=4, encoder_stride=4)).train(False)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.5)
    model.save_pretrained(HERE)
    pixels, masks = torch.randn(1, 3, 8, 8), torch.tensor([[True, False, False, True]])
    with torch.no_grad():
        picture = model(pixels, bool_masked_pos=masks).reconstruction
    save_file({"pixels": pixels, "masks": masks, "picture": picture}, HERE / "golden.safetensors")
