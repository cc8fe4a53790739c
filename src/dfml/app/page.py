"""The page: fields, buttons and what they do, in gradio; it asks no other machine for anything."""

import hmac
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from jinja2 import Environment, PackageLoader

from dfml.app.learned import Learned
from dfml.app.task import Class, Task, Unfit, adapt, ask, packed
from dfml.errors import InputError
from dfml.files import visible
from dfml.learners.base import AbstractLearner
from dfml.nn.foreign.base import library

CLASSES, MOST_CLASSES = 2, 20  # fields at the start, and with those that are added
SESSIONS = 32  # of which tasks are kept; of more the oldest go
OWN = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:; frame-ancestors 'self'"
)
HEADERS = ((b"content-security-policy", OWN.encode()), (b"referrer-policy", b"no-referrer"))
HEAD = """# A classifier of your own
Name your classes, drop a few images of each, and press *Adapt*. Then drop images to be told apart. They stay on the
machine that runs this page."""
USE = """Unpacked, it is a folder `predictor`: `dfml predict predictor PHOTOS` labels thousands of images with it, and
`dfml serve predictor` puts it behind an address."""


def web_page(
    learner: AbstractLearner, place: Path, learned: Learned | None = None, *, key: str = "", max_bytes: int = 50_000_000
) -> Any:
    """The page as an ASGI application.

    Args:
        learner: adapts to what people drop.
        place: a folder for the predictors that they make.
        learned: what to show of where the learner comes from.
        key: the password that is asked for; empty asks for none.
        max_bytes: of an image file.

    Raises:
        NotAtHand: gradio is not installed.
    """
    gradio, fastapi = library("gradio", "app"), library("fastapi", "app")
    blocks = gradio.Blocks(title="dfml", analytics_enabled=False)
    blocks.state_session_capacity = SESSIONS
    with blocks:
        gradio.Markdown(HEAD)
        with gradio.Tab("Classify"):
            _classify(gradio, learner, place)
        if learned is not None:
            with gradio.Tab("What was learned") as tab:
                _show(gradio, learned, tab)
    guard: dict[str, Any] = {}
    if key:
        guard = {"auth": lambda _, given: hmac.compare_digest(given.encode(), key.encode())}
        guard |= {"auth_message": "The password is the key; any name will do."}
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=max_bytes,
        theme=gradio.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css_paths=Path(__file__).parent / "templates" / "page.css",
        **guard,
    )
    return _with_headers(app)


def _with_headers(app: Any) -> Any:
    """Browsers then load nothing from elsewhere, whatever a page asks for."""

    async def headed(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], *HEADERS]}
            await send(message)

        await app(scope, receive, sending)

    return headed


def _class_fields(gradio: Any) -> tuple[list[Any], list[Any]]:
    """Fields for the names and the images of classes, of which more can be added."""
    count, columns, names, supports = gradio.State(CLASSES), [], [], []
    with gradio.Row():
        for number in range(MOST_CLASSES):
            with gradio.Column(min_width=300, visible=number < CLASSES) as column:
                names.append(gradio.Textbox(label=f"Class {number + 1}", placeholder="its name", max_lines=1))
                supports.append(_images_field(gradio, "A few images of it"))
            columns.append(column)
    add = gradio.Button("Add a class", size="sm")

    def added(number: int) -> Sequence[Any]:
        shown = min(number + 1, MOST_CLASSES)
        fields = (gradio.Column(visible=i < shown) for i in range(MOST_CLASSES))
        return shown, gradio.Button(interactive=shown < MOST_CLASSES), *fields

    add.click(added, count, [count, add, *columns], show_progress="hidden", api_visibility="private")
    return names, supports


def _classify(gradio: Any, learner: AbstractLearner, place: Path) -> None:
    """Classes, a button that adapts to them, and a field for what is asked about."""
    task = gradio.State(None)
    names, supports = _class_fields(gradio)
    wants = gradio.Checkbox(label="An image may be of none of these classes")
    cost = "Percent of images of your own classes that may be turned away with them"
    share = gradio.Slider(1, 30, value=5, step=1, visible=False, label=cost)
    go = gradio.Button("Adapt", variant="primary")
    said = gradio.HTML()
    with gradio.Column(visible=False) as asking:
        gradio.Markdown("## Images to be told apart")
        queries = _images_field(gradio, "Images to be told apart")
        answers = gradio.HTML()
        gradio.Markdown("## To keep")
        download = gradio.DownloadButton("Download the classifier")
        gradio.Markdown(USE)

    def adapted(wants_none: bool, percent: float, *given: Any) -> Sequence[Any]:
        fields = zip(given[:MOST_CLASSES], given[MOST_CLASSES:], strict=True)
        classes = [Class(name or "", _paths(images)) for name, images in fields]
        try:
            made = adapt(learner, classes, reject=percent / 100 if wants_none else None)
        except Unfit as error:
            return gradio.skip(), _html("task", problems=error.problems), gradio.skip(), gradio.skip()
        path = packed(made, Path(mkdtemp(dir=place)))
        return made, _html("task", sentences=made.sentences()), gradio.Column(visible=True), str(path)

    def answered(made: Task | None, images: Any) -> str:
        if not images:
            return ""
        if made is None:  # one of many who use the page, and not lately
            return _html("task", problems=["Your classes are no longer kept here: press Adapt again."])
        try:
            return _html("task", answers=ask(made, _paths(images)))
        except Unfit as error:
            return _html("task", problems=error.problems)

    wants.change(lambda on: gradio.Slider(visible=on), wants, share, show_progress="hidden", api_visibility="private")
    going = go.click(adapted, [wants, share, *names, *supports], [task, said, asking, download], api_name="adapt")
    going.then(answered, [task, queries], answers, api_visibility="private")
    queries.change(answered, [task, queries], answers, api_name="ask")


def _images_field(gradio: Any, label: str) -> Any:
    return gradio.Gallery(
        label=label,
        show_label=False,
        type="filepath",
        file_types=["image", ".heic", ".heif", ".avif"],
        interactive=True,
        object_fit="cover",
        allow_preview=False,
        buttons=[],
        elem_classes="images",
    )


def _show(gradio: Any, learned: Learned, tab: Any) -> None:
    """Curves, what models show, and their table; drawn when somebody looks."""
    try:
        models, problems = list(learned.zoo.ids), list[str]()
    except InputError as error:  # the zoo has moved, or is gone: its run stays
        models, problems = [], [f"{error.given}: {error.do}."]
    if models:
        with gradio.Row():
            model = gradio.Dropdown(models, value=models[0], label="What this model shows of its classes")
            steps = learned.steps
            step = gradio.Dropdown(steps, value=max(steps, default=None), label="After step", visible=bool(steps))
        picture = gradio.HTML()
    curves = gradio.HTML(_html("learned", problems=problems))
    if models:
        gradio.HTML(_html("learned", table=learned.table()))

    def drawn(name: str, number: int | None) -> str:
        try:
            lines, shown = learned.shown(name, number)
        except InputError as error:
            return _html("learned", problems=[f"{error.given}: {error.do}."])
        return _html("learned", lines=lines, pictures=[shown] if shown else [])

    def trained() -> str:
        return _html("learned", problems=problems, pictures=learned.curves())

    tab.select(trained, None, curves, api_visibility="private")
    for event in (tab.select, model.change, step.change) if models else ():
        event(drawn, [model, step], picture, api_visibility="private")


def _paths(gallery: Any) -> list[Path]:
    """Of what a gallery holds: pairs of a file and its caption."""
    return [Path(file) for file, _ in gallery or []]


def _html(template: str, **values: Any) -> str:
    pages = Environment(loader=PackageLoader("dfml.app"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters["seen"] = visible
    return pages.get_template(f"{template}.html").render(values)
