"""Muon: momentum whose matrix updates are orthogonalised (Newton-Schulz), batched over matrices of one shape."""
import torch


def newton_schulz(g, steps=5):
    """Batched orthogonalisation of [..., r, c]."""
    tr = g.shape[-2] > g.shape[-1]
    x = (g.transpose(-1, -2) if tr else g)
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(steps):
        s = x @ x.transpose(-1, -2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return (x.transpose(-1, -2) if tr else x).float()


class Muon:
    def __init__(self, params, lr, momentum=0.95, wd=0.02):
        self.p, self.lr0, self.mom, self.wd = params, lr, momentum, wd
        self.buf = [torch.zeros_like(p) for p in params]
        self.groups = {}
        for i, p in enumerate(params):  # same shapes together: one batched call
            self.groups.setdefault(tuple(p.shape[-2:]), []).append(i)

    @torch.no_grad()
    def step(self, f):
        lr = self.lr0 * f
        for shape, idx in self.groups.items():
            gs, ii = [], []
            for i in idx:
                g = self.p[i].grad
                if g is None:
                    continue
                self.buf[i].lerp_(g, 1 - self.mom)
                gs.append(g.lerp(self.buf[i], self.mom).view(-1, *shape))
                ii.append(i)
            if not gs:
                continue
            u = newton_schulz(torch.cat(gs), 5 if shape[0] != 128 or shape[1] > 128 else 4) * max(1.0, shape[0] / shape[1]) ** 0.5
            o = 0
            for i in ii:
                p = self.p[i]
                n = p.numel() // (shape[0] * shape[1])
                p.mul_(1 - lr * self.wd).add_(u[o:o + n].view(p.shape), alpha=-lr)
                o += n
