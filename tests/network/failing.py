"""Changes of the training for tests in processes of their own; it imports little, for such a process does it anew."""

from torch import nn

from landfold.network import fold, training


def fail_in_epoch_2(ranks, failure, patch=setattr):
    """Call ``failure`` before the second epoch in the processes of these ranks."""
    real = training._TrainingRun.train_epoch

    def train_epoch(self, callbacks):
        if self.epoch == 2 and self.fabric.global_rank in ranks:
            failure()
        return real(self, callbacks)

    patch(training._TrainingRun, "train_epoch", train_epoch)


def without_batch_norm(patch=setattr):
    """Normalize each patch by itself, so that what a process learns does not depend on its part of a batch."""
    real = fold.build

    def build(*arguments, **options):
        network = real(*arguments, **options)
        for name, layer in list(network.named_modules()):
            if isinstance(layer, nn.BatchNorm2d):
                network.set_submodule(name, nn.GroupNorm(1, layer.num_features))
        return network

    patch(fold, "build", build)
