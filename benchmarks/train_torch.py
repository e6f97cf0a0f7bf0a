"""The peer of ``train.py``: ResNet-18 at small images in plain PyTorch, as MedMNIST's published training does it.

    python benchmarks/train_torch.py --size 28 --batch 128 --steps 12 [--gpu]

Runs in a Python with PyTorch alone. Prints one line of JSON. The network is that of MedMNIST's own code: a 3x3
convolution that keeps the size, four stages of two basic blocks (64, 128, 256, 512 channels), global average, linear.
"""

import argparse
import json
import time

import torch
from torch import nn


class Block(nn.Module):
    """Two 3x3 convolutions and a way around them (He et al. 2016)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.around = nn.Identity()
        if stride != 1 or before != width:
            self.around = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.around(x))


def resnet18(channels: int = 1, classes: int = 2) -> nn.Module:
    """ResNet-18 for small images."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    before = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for unit in range(2):
            layers.append(Block(before, width, 2 if stage and not unit else 1))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def main() -> None:
    """Times steps of Adam on random images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="on the first GPU, in bfloat16 (autocast)")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if chosen.gpu else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    data = torch.utils.data.TensorDataset(
        torch.randn((chosen.steps + chosen.warmup) * chosen.batch, 1, chosen.size, chosen.size),
        torch.randint(2, ((chosen.steps + chosen.warmup) * chosen.batch,)),
    )
    loader = torch.utils.data.DataLoader(data, chosen.batch, shuffle=True, pin_memory=chosen.gpu)
    network, loss = resnet18().to(device), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.train()
    seconds, cpu = [], []
    for x, y in loader:
        began, cpu_began = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=chosen.gpu):
            value = loss(network(x.to(device, non_blocking=True)), y.to(device, non_blocking=True))
        value.backward()
        optimizer.step()
        value.item()
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
    seconds, cpu = seconds[chosen.warmup :], cpu[chosen.warmup :]
    row = {
        "who": f"PyTorch {torch.__version__}",
        "precision": "bfloat16" if chosen.gpu else "float32",
        "weights": sum(one.numel() for one in network.parameters()),
        "threads": torch.get_num_threads(),
        "images_per_second": chosen.batch * len(seconds) / sum(seconds),
        "best_images_per_second": chosen.batch / min(seconds),
        "cpu_seconds_a_step": sum(cpu) / len(cpu),
        "memory_mb": torch.cuda.max_memory_allocated() / 2**20 if chosen.gpu else None,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
