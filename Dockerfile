# syntax=docker/dockerfile:1
# esp-medsam with its weights: needs no network, no root, and writes only to what is mounted.
#
#   docker build --tag esp-medsam .
#   docker run --rm --read-only --tmpfs /tmp --network none --user "$(id -u)" \
#     --volume "$PWD/scans:/in:ro" --volume "$PWD/masks:/out" esp-medsam segment /in /out
#
# For a CPU, a build of torch without CUDA makes the image 5 GB smaller:
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
FROM python:3.12-slim-bookworm AS build
ARG TORCH_INDEX=
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/esp-medsam
ENV PATH=/opt/esp-medsam/bin:$PATH
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" 'torch>=2.10'; fi
COPY . .
RUN pip install '.[report]'
# What is inside, for whoever has to check it: CycloneDX, by a tool that stays outside.
RUN python -m venv /tools && /tools/bin/pip install 'cyclonedx-bom>=7,<8' \
  && /tools/bin/cyclonedx-py environment --output-reproducible \
    --output-file /opt/esp-medsam/share/esp_medsam/sbom.cdx.json /opt/esp-medsam/bin/python

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title=esp-medsam \
  org.opencontainers.image.licenses=Apache-2.0 \
  org.opencontainers.image.description="Segments medical images of eight modalities without prompts"
COPY --from=build /opt/esp-medsam /opt/esp-medsam
ENV PATH=/opt/esp-medsam/bin:$PATH HOME=/tmp USER=esp-medsam PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
# Ends with the container if this does not hold: weights, decoders, and a picture.
RUN esp-medsam doctor
ENTRYPOINT ["esp-medsam"]
CMD ["--help"]
