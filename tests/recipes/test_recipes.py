"""The recipes of docs/recipes.md, each under the real thing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .running import LIMIT_S, all_ended, free_port, get, lay_out, need, recipe, running, servers_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_fastapi_application_answers_through_both_doors(tmp_path: Path) -> None:
    """One session for both handlers, and none is left when the application ends."""
    need("fastapi", "uvicorn")
    lay_out(tmp_path, "FastAPI", "agent_app.py")
    port = free_port()
    with running("uvicorn", "agent_app:app", f"--port={port}", directory=tmp_path) as process:
        for handler in ("forecast", "blocking"):
            answer = get(f"http://127.0.0.1:{port}/{handler}/Oslo", process)
            assert answer == '"Sunny in Oslo."'
        assert len(servers_in(tmp_path)) == 1
    assert all_ended(tmp_path)


@pytest.mark.scenario("S38")
def test_gunicorn_workers_have_servers_of_their_own_after_preload(tmp_path: Path) -> None:
    """Each worker opens its own under the manager that was made before the fork, and closes it."""
    need("gunicorn")
    lay_out(tmp_path, "gunicorn with preload", "agent_wsgi.py")
    # As a program does that looks at its server first: the handle is warm before the fork.
    with (tmp_path / "agent_wsgi.py").open("a", encoding="utf-8") as file:
        file.write("\nmanager.session(weather)\n")
    port = free_port()
    line = ("gunicorn", "--preload", "--workers=2", "--threads=4", f"--bind=127.0.0.1:{port}")
    with running(*line, "agent_wsgi:app", directory=tmp_path) as process:
        for number in range(200):
            assert get(f"http://127.0.0.1:{port}/Oslo", process) == "Sunny in Oslo."
            if number >= 1 and len(servers_in(tmp_path)) == 3:
                break  # The parent's, and one of each worker.
        assert 2 <= len(servers_in(tmp_path)) <= 3
    assert all_ended(tmp_path)


@pytest.mark.scenario("S38")
def test_celery_worker_runs_tasks_that_share_sessions(tmp_path: Path) -> None:
    """Each child of the pool opens its own, and no server is left when the worker ends."""
    need("celery")
    lay_out(tmp_path, "Celery", "agent_tasks.py")
    queue, results = tmp_path / "queue", tmp_path / "results"
    for directory in (queue, results):
        directory.mkdir()
    (tmp_path / "celeryconfig.py").write_text(
        f"broker_url = 'filesystem://'\n"
        f"broker_transport_options = {{'data_folder_in': {str(queue)!r}, 'data_folder_out': {str(queue)!r},"
        f" 'control_folder': {str(queue)!r}}}\n"
        f"result_backend = {results.as_uri()!r}\n"
    )
    (tmp_path / "ask.py").write_text(
        "from agent_tasks import forecast\n"
        "answers = [forecast.delay(city) for city in ('Oslo', 'Rome', 'Oslo', 'Rome')]\n"
        f"print([answer.get(timeout={LIMIT_S}) for answer in answers])\n"
    )
    line = ("celery", "--app=agent_tasks", "worker", "--concurrency=2", "--loglevel=WARNING")
    with running(*line, directory=tmp_path), running("ask", directory=tmp_path) as asking:
        assert asking.wait(LIMIT_S) == 0
        assert 1 <= len(servers_in(tmp_path)) <= 2
    assert all_ended(tmp_path)


def test_notebook_awaits_and_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe runs in a kernel; the blocking door there names its twin."""
    need("nbclient", "ipykernel")
    import nbclient
    import nbformat

    from .running import WEATHER, environment

    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    (tmp_path / WEATHER.name).write_bytes(WEATHER.read_bytes())
    blocking = (
        "try:\n    manager.session(weather, 'other')\nexcept Exception as error:\n"
        "    print(type(error).__name__, 'asession' in str(error))"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (recipe("Jupyter"), blocking)]
    )
    client = nbclient.NotebookClient(notebook, timeout=int(LIMIT_S), kernel_name="python3")
    client.resources = {"metadata": {"path": str(tmp_path)}}
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    said = [output.text for output in outputs if output.get("name") == "stdout"]
    assert said == ["Sunny in Zürich.\n", "BlockingCallError True\n"]
    assert all_ended(tmp_path)
