# The locked packages, no sources: docker_run.sh builds this image and mounts the repository over /workspace.
# The wheels of torch bring CUDA with them, so the base needs only Python, and the host only its driver. Nothing is
# compiled: what is no wheel is refused.
ARG BASE=python:3.12-slim
FROM ${BASE}
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /workspace
COPY requirements.lock ./
RUN python -m pip install --only-binary=:all: --requirement requirements.lock
# Any user id may run it: it needs a home for caches and a name, but no entry in /etc/passwd.
ENV HOME=/cache USER=mscond
USER 1000:1000
