# One image for the demonstration's agent and for the dashboard: see docker-compose.yml.
FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
WORKDIR /source
COPY requirements/demo.txt requirements/
RUN /venv/bin/python -m pip install --require-hashes -r requirements/demo.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY instrumented_sessions instrumented_sessions
COPY dashboard dashboard
RUN /venv/bin/python -m pip install --no-deps --no-build-isolation . && \
    /venv/bin/python -m pip uninstall --yes setuptools

FROM python:3.13-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --no-create-home sessions
COPY --from=build /venv /venv
USER 10001
ENTRYPOINT ["instrumented-sessions"]
CMD ["dashboard"]
