# %% [markdown]
# # Audit a model of transformers on two arrays
#
# First, a model to audit: a small `ViTMAEForPreTraining` that learns 40 handwritten digits.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from transformers import ViTMAEConfig, ViTMAEForPreTraining

torch.manual_seed(0)
torch.set_num_threads(1)
digits = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
members, nonmembers = digits[:40], digits[40:400]
config = ViTMAEConfig(
    image_size=8,
    patch_size=4,
    mask_ratio=0.5,
    num_channels=1,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=256,
    decoder_hidden_size=32,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=4,
    decoder_intermediate_size=128,
)
model = ViTMAEForPreTraining(config)
pixels = (torch.from_numpy(members).float()[:, None] / 255 - 0.5) / 0.5
steps, peak = 400, 6e-3
optimizer = torch.optim.AdamW(model.parameters(), peak, betas=(0.9, 0.95), weight_decay=0.05)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, steps)
for _ in range(steps):
    loss = model(torch.cat([pixels, pixels])).loss  # each image under two masks
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %% [markdown]
# Then the audit.

# %%
import mimia  # noqa: E402

settings = {
    "checkpoint": {"mean": [0.5], "std": [0.5]},
    "recipe": {"preset": "mae-nano", "patch_size": 4, "mask_ratio": 0.5, "base_learning_rate": 0.016, "epochs": 120},
    "attacks": {"names": ["threshold", "calibrated"]},
    "store": "store",
}
result = mimia.audit(model, members=members, nonmembers=nonmembers, settings=settings)
print(result)
print(result.verdict.sentence)
print(result.to_frame().groupby("role")["calibrated score"].mean())
result.plot_roc()
plt.savefig("roc.png")
result.save("report")
