#!/bin/sh
# One node, started by accelerate: sh docs/launch/accelerate.sh RECIPE [key=value …]
accelerate launch --config_file docs/launch/accelerate.yaml -m lep.cli.main pretrain "$@"
