"""Teach the vision tower of weir-tiny to see, before the language model learns to read it.

The loss of a text answer says little about a picture: a handful of tokens for 4 to 16 merged vision tokens. The generator knows
more: which object covers which cell. Here every merged token has to tell, through linear probes that are thrown away afterwards,
the shape, the color and the place of the object that covers most of its cell (or none), and how many objects there are.

usage: python pretrain_vision.py CHECKPOINT_DIR OUT.pt [--steps N] [--probe-only] [--resume]
CHECKPOINT_DIR: where the tower's first weights come from. OUT.pt: the tower (for train.py --vision), probes and optimiser state.
--probe-only leaves the tower alone and trains the probes: how much a linear reader finds in it.
"""
import argparse
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F

import evaluate
import gen
import vision
from muon import Muon

CELL = vision.PATCH * vision.MERGE
COVERED = 0.04  # of a cell: less of an object is too little to tell what it is
CLASSES = {"shape": [None, *gen.SHAPES], "color": [None, *gen.IMG_COLORS], "pos": [None, *gen.POS1], "count": [1, 2]}
WIDTHS = [len(c) for c in CLASSES.values()]


def owners(spec):
    """For each cell (row by row) the index of the object that covers most of it, or None."""
    m = np.asarray(gen.object_map(spec))
    h, w = m.shape[0] // CELL, m.shape[1] // CELL
    cells = m.reshape(h, CELL, w, CELL).transpose(0, 2, 1, 3).reshape(h * w, CELL * CELL)
    area = np.stack([(cells == i + 1).mean(1) for i in range(len(spec["objs"]))])
    return [int(i) if a > COVERED else None for i, a in zip(area.argmax(0), area.max(0))]


def targets(spec):
    """[merged tokens, probes] class numbers."""
    objs = spec["objs"]
    rows = [{"count": len(objs)} if i is None else dict(objs[i], count=len(objs)) for i in owners(spec)]
    return [[c.index(row.get(k)) for k, c in CLASSES.items()] for row in rows]


def batch(r, n, split):
    specs = []
    while len(specs) < n:
        specs.append(gen.example(r, split, "image")["spec"])
    return [vision.patchify(gen.draw(s)) for s in specs], torch.tensor([t for s in specs for t in targets(s)])


def logits(net, probes, imgs):
    """What the probes read; the language model too sees the features only through an RMS norm."""
    f = net.vision(imgs)
    return probes(F.rms_norm(f, f.shape[-1:])).split(WIDTHS, -1)


def accuracy(net, probes, r, n=512):
    """Share of right tokens per probe, covered cells and background apart."""
    imgs, t = batch(r, n, "eval")
    with torch.no_grad():
        right = torch.stack([x.argmax(-1) == t[:, i] for i, x in enumerate(logits(net, probes, imgs))], 1)
    covered = t[:, 0] > 0
    show = lambda m: " ".join(f"{k} {v:.3f}" for k, v in zip(CLASSES, right[m].float().mean(0).tolist()))
    return f"covered: {show(covered)}; background: {show(~covered)}"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("checkpoint")
    ap.add_argument("out")
    ap.add_argument("--steps", type=int, default=6000)
    ap.add_argument("--images", type=int, default=64, help="per step")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--muon-lr", type=float, default=0.01, help="of the matrices of the blocks and the merger")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--probe-only", action="store_true")
    ap.add_argument("--resume", action="store_true", help="go on from OUT.pt")
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    net = evaluate.load(a.checkpoint)
    tower = net.hf.model.visual
    tower.requires_grad_(not a.probe_only)
    probes = torch.nn.Linear(128, sum(WIDTHS))
    trained = [(n, p) for m in (tower, probes) for n, p in m.named_parameters() if p.requires_grad]
    matrix = lambda n, p: p.ndim == 2 and n.startswith(("blocks.", "merger."))
    muon = Muon([p for n, p in trained if matrix(n, p)], a.muon_lr)
    opt = torch.optim.AdamW([p for n, p in trained if not matrix(n, p)], lr=a.lr, betas=(0.9, 0.98), weight_decay=0.01)
    first = 0
    if a.resume:
        s = torch.load(a.out)
        tower.load_state_dict(s["vision"])
        probes.load_state_dict(s["probes"])
        opt.load_state_dict(s["adam"])
        muon.buf = s["muon"]
        first = s["step"]
    t0, seen = time.time(), 0.0

    def save(step):
        torch.save({"vision": tower.state_dict(), "probes": probes.state_dict(), "adam": opt.state_dict(), "muon": muon.buf, "step": step}, a.out + ".tmp")
        os.replace(a.out + ".tmp", a.out)

    for step in range(first, a.steps):
        imgs, t = batch(random.Random(a.seed * 1_000_003 + step), a.images, "train")
        loss = sum(F.cross_entropy(x, t[:, i]) for i, x in enumerate(logits(net, probes, imgs)))
        tower.zero_grad(set_to_none=True)
        probes.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        f = min(1.0, (step + 1) / 100, (a.steps - step) / (0.7 * a.steps))  # a short warm-up, then linear to zero
        for g in opt.param_groups:
            g["lr"] = a.lr * f
        opt.step()
        muon.step(f)
        seen += loss.item()
        if (step + 1) % 250 == 0 or step + 1 == a.steps:
            rate = (step + 1 - first) * a.images / (time.time() - t0)
            print(f"step {step + 1} loss {seen / min(250, step + 1 - first):.4f} images/s {rate:.0f} {accuracy(net, probes, random.Random(777))}", flush=True)
            seen = 0.0
            save(step + 1)


if __name__ == "__main__":
    main()
