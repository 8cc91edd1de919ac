#!/bin/sh
# One node, all its GPUs, a shard of the model on each: sh docs/launch/fsdp2.sh RECIPE [key=value …]
torchrun --standalone --nproc-per-node gpu -m lep.cli.main pretrain "$@" parallel=fsdp2 gradient_checkpointing=true
