#!/bin/sh
# One node, all its GPUs, the full model on each: sh docs/launch/torchrun.sh RECIPE [key=value …]
torchrun --standalone --nproc-per-node gpu -m lep.cli.main pretrain "$@"
