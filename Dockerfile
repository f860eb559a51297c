# Spillway and Prefect in one image. docs/production/containers.md says how to use it.
#   docker build -t spillway .
# Behind a mirror of PyPI: --secret id=pip,src=/etc/pip.conf. It is read while packages are installed and stays nowhere.
#   --build-arg BASE=...: any image with Python 3.11 or later, its module venv, and a shell.
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build
WORKDIR /build
COPY requirements.lock requirements-dev.lock ./
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Only wheels: nothing is compiled, so no compiler is needed. --no-deps: the lock is complete, and pip below 23.1 does not
# find the pin of `sqlalchemy[asyncio]` in it.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/spillway \
 && /opt/spillway/bin/pip install --quiet --no-deps --require-hashes --only-binary=:all: --no-compile -r requirements.lock
COPY pyproject.toml README.md ./
COPY flows flows
COPY tasks tasks
COPY infra infra
# The wheel is built with the setuptools of the lock, which is removed again.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > setuptools.lock \
 && /opt/spillway/bin/pip install --quiet --require-hashes --only-binary=:all: -r setuptools.lock \
 && /opt/spillway/bin/pip install --quiet --no-deps --no-build-isolation --no-index --no-compile . \
 && /opt/spillway/bin/pip check \
 && /opt/spillway/bin/pip uninstall --quiet --yes pip setuptools \
 # Tests of libraries take 80 MB. Modules are compiled here, since nothing can be written at run time; those for another
 # version of Python cannot be, and are not used.
 && rm -r /opt/spillway/lib/python3*/site-packages/*/tests \
 && { /opt/spillway/bin/python -m compileall -qq -j 0 /opt/spillway/lib || true; }

FROM ${BASE}
COPY --from=build /opt/spillway /opt/spillway
COPY --chmod=755 infra/containers/entrypoint.sh /usr/local/bin/spillway-entrypoint
COPY --chmod=755 infra/containers/prefect_health.py /usr/local/bin/prefect-health
# Prefect reads the prefect.toml of the current folder. A mapping file belongs there too: /srv/spillway/spillway.toml.
COPY flows/prefect.toml /srv/spillway/prefect.toml
WORKDIR /srv/spillway
# Everything that is written goes below /tmp, so the rest can be read-only.
ENV PATH=/opt/spillway/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp PREFECT_HOME=/tmp/prefect MPLCONFIGDIR=/tmp/matplotlib \
    DO_NOT_TRACK=1
# A number, so that Kubernetes can prove that it is not root. Any other number works too.
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/spillway-entrypoint"]
CMD ["--help"]
# Ready: settings, mapping file, both servers and the schema. It needs no Prefect.
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s --retries=3 CMD ["spillway", "health"]
