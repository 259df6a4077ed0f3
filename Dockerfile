# The locked packages, no sources: docker_run.sh builds this image and mounts the repository over /workspace.
# The wheels of torch bring CUDA with them, so the base needs only Python, and the host only its driver.
ARG BASE=python:3.12-slim
FROM ${BASE}
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /workspace
COPY requirements.lock ./
RUN python -m pip install --requirement requirements.lock
# Any user id may run it: it needs a home for caches and a name, but no entry in /etc/passwd.
ENV HOME=/cache USER=mscond
USER 1000:1000
