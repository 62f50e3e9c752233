"""Prunes the network of `net.py` with the weights in `trained.pth` to half its multiply-adds, and exports it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from digits import accuracy, load, train
from net import make_net

import prunebench

model = make_net()
model.load_state_dict(torch.load("trained.pth", weights_only=True)["state_dict"])
images, _ = load()
example = images[:1]

smaller = prunebench.prune_to(model, example, budget=0.5, method="group-l2")
kept = prunebench.count_macs(smaller, example) / prunebench.count_macs(model, example)
print(f"kept {kept:.3f} of the multiply-adds")
print(f"accuracy: dense {accuracy(model):.1f} %, pruned {accuracy(smaller):.1f} %")
train(smaller, steps=150, rate=1e-3)
print(f"accuracy: recovered {accuracy(smaller):.1f} %")

prunebench.save_pruned("pruned", smaller.eval())  # to go on in torch: prunebench.load_pruned("pruned", make_net())
prunebench.export_onnx(smaller, example, "pruned/model.onnx")  # for any number of images at once
again = prunebench.load_pruned("pruned", make_net()).eval()
session = onnxruntime.InferenceSession("pruned/model.onnx")
(logits,) = session.run(None, {"input": images[:8].numpy()})
with torch.no_grad():
    print(f"onnxruntime and torch differ by {np.abs(np.asarray(logits) - again(images[:8]).numpy()).max():.1e} at most")
