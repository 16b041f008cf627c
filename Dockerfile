# docker build --target cpu -t selavi .          docker build --target cuda -t selavi-cuda .
FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 NUMBA_CACHE_DIR=/tmp/numba
COPY . /src
ENTRYPOINT ["selavi"]

FROM base AS cpu
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install "/src[all]" && rm -r /src

# PyTorch's wheels bring the CUDA libraries; only the driver comes from the host (`docker run --gpus all`).
FROM base AS cuda
RUN pip install "/src[all]" && rm -r /src
