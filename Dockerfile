# lep in a container that needs no network once it is built.
#
#   docker build -t lep .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" lep check recipe.yaml
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" --gpus all lep run recipe.yaml
#
# On x86-64 torch's wheel includes CUDA, and also works without a GPU. For a small image without CUDA, or for another
# version of CUDA, pass the package index that pytorch.org names: --build-arg TORCH_INDEX=…

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=
ARG EXTRAS=cli,report,train,eval,serve,export,track
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/lep/bin:$PATH
RUN python -m venv /opt/lep
WORKDIR /build
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install -c constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim
# Triton and torch.compile call a C compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/lep /opt/lep
RUN useradd --create-home --uid 1000 lep
# Any user of the host can run it (--user): libraries write their caches to /tmp.
ENV PATH=/opt/lep/bin:$PATH USER=lep HOME=/tmp HF_HUB_OFFLINE=1
USER 1000
WORKDIR /work
ENTRYPOINT ["lep"]
CMD ["--help"]
