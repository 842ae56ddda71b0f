"""Equal bytes on other processors: ``python -m benchmarks.processors [Haswell EPYC-Milan Skylake-Client]``.

Takes steps of training with the default network on made-up pixels, and predicts by it and by a classical model through
its module of torch; prints SHA-256 digests of what each step gives. With names of processors, the same runs under
QEMU's user emulation of them (Debian's package qemu-user; minutes each), and what differs is said. Exit code 1 if
anything does.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig

import numpy as np

import landfold

STATE = ".dvc/tmp/processors.pt"
"""Where the trained classical model waits for the emulated processors."""


def digests() -> list[str]:
    """Lines of what was computed and its digest."""
    import torch  # after landfold, which says which instructions it takes

    from landfold.classical.selection import CANDIDATES
    from landfold.network.classical import ClassicalNetwork
    from landfold.network.surroundings import SurroundingsNetwork
    from landfold.pixels.surroundings import surroundings

    lines = [f"landfold {landfold.__version__}, torch {torch.__version__}"]

    def tell(what: str, *tensors: torch.Tensor) -> None:
        total = hashlib.sha256()
        for tensor in tensors:
            total.update(tensor.detach().contiguous().numpy().tobytes())
        lines.append(f"{what}: {total.hexdigest()[:16]}")

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    window = torch.from_numpy(random.random((1, 16, 60, 70), dtype=np.float32))
    rows = surroundings(window, [3, 7, 15])[0].permute(1, 2, 0).reshape(-1, 112).contiguous()
    tell("features", rows)
    network = SurroundingsNetwork(112, 8, bins=6, hidden=[96, 96], dropout=0.3, noise=0.1)
    network.learn_bins(rows.numpy())
    tell("bins", network.low, network.gain, network.spread)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.05, fused=True)
    classes = torch.from_numpy(random.integers(0, 8, len(rows)))
    for step in range(4):
        part = slice(512 * step, 512 * (step + 1))
        scores = network(rows[part])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores, classes[part], label_smoothing=0.05).backward()
        tell(f"step {step + 1}, scores", scores)
        tell(f"step {step + 1}, gradients", *(weight.grad for weight in network.parameters()))
        optimizer.step()
        tell(f"step {step + 1}, weights", *network.state_dict().values())
    network.eval()
    classical = ClassicalNetwork(112, 8)
    if "QEMU" not in os.environ:  # scikit-learn crashes under the emulator; its models are walked by torch
        classical.take(CANDIDATES[1].make(0).fit(rows[:600].numpy(), classes[:600].numpy()))
        os.makedirs(".dvc/tmp", exist_ok=True)
        torch.save(classical.state_dict(), STATE)
    classical.load_state_dict(torch.load(STATE, weights_only=True))
    with torch.inference_mode():
        tell("probabilities", torch.softmax(network(rows[:1024]), dim=1))
        tell("probabilities of a classical model", torch.softmax(classical(rows[:1024]), dim=1))
    return lines


def main() -> None:
    """Compute here, then on each processor that is named, and compare."""
    here = digests()
    print("\n".join(here))
    faults = 0
    for processor in [] if "QEMU" in os.environ else sys.argv[1:]:
        command = ["qemu-x86_64", "-cpu", processor, os.path.realpath(sys.executable), "-m", "benchmarks.processors"]
        environment = os.environ | {"QEMU": processor, "PYTHONPATH": f"{os.getcwd()}:{sysconfig.get_path('purelib')}"}
        there = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = there.stdout.splitlines()
        different = [line for line, own in zip(found, here, strict=False) if line != own]
        faults += bool(different) or len(found) != len(here)
        if len(found) != len(here):
            print(f"{processor}: ended after {len(found)} of {len(here)} lines: {there.stderr.strip()[-300:]}")
        else:
            print(f"{processor}: {'all equal' if not different else 'other: ' + '; '.join(different)}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
