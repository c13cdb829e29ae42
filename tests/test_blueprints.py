"""Blueprints: mounted in apps and in each other, under prefixes and names."""

import re
from collections.abc import Callable

import pytest

from vibora import (
    Blueprint,
    Events,
    Request,
    Response,
    RouteLimits,
    RouterStrategy,
    TextResponse,
    Vibora,
)
from vibora.exceptions import ConfigurationError, DuplicatedBlueprint, DuplicateRoute, ReverseNotFound
from vibora.routing import Handler


def saying(text: str) -> Handler:
    """Return a handler that says something."""

    async def answer() -> Response:
        return TextResponse(text)

    return answer


def names(app: Vibora) -> dict[str, str]:
    """Return the patterns of an app's routes by their names."""
    return {route.name: route.pattern for route in app.routes}


class TestMounting:
    def test_prefixes_come_before_patterns_and_names(self) -> None:
        app, users = Vibora(), Blueprint()

        @users.get("/<user_id>")
        async def show(user_id: int) -> Response:
            return TextResponse(f"user {user_id}")

        app.add_blueprint(users, prefixes={"users": "/users"})
        assert names(app) == {"users.show": "/users/<user_id>"}
        assert app.url_for("users.show", user_id=7) == "/users/7"
        with app.test_client() as client:
            assert client.get("/users/7").text == "user 7"
            assert client.get("/7").status_code == 404

    def test_without_a_prefix_its_routes_are_the_apps(self) -> None:
        app, pages = Vibora(), Blueprint()
        pages.add_route("/about", saying("about"), name="about")
        app.add_blueprint(pages)
        assert names(app) == {"about": "/about"}

    def test_several_mounts_of_one_blueprint(self) -> None:
        app, api = Vibora(), Blueprint()

        @api.get("/")
        async def home(request: Request) -> Response:
            assert request.route is not None
            return TextResponse(request.route.name)

        app.add_blueprint(api, prefixes={"v1": "/v1", "v2": "/v2", "": "/"})
        assert names(app) == {"v1.home": "/v1/", "v2.home": "/v2/", "home": "/"}
        with app.test_client() as client:
            assert [client.get(path).text for path in ("/v1/", "/v2/", "/")] == ["v1.home", "v2.home", "home"]

    def test_nested_names_are_joined_with_colons(self) -> None:
        app, outer, middle, inner = Vibora(), Blueprint(), Blueprint(), Blueprint()
        inner.add_route("/leaf", saying("leaf"), name="leaf")
        inner.add_route("/nameless", saying("-"), name="other")
        middle.add_blueprint(inner, {"c": "/c"})
        outer.add_blueprint(middle, {"": "/plain"})  # without a name: nothing is joined
        app.add_blueprint(outer, {"a": "/a"})
        assert names(app) == {"a:c.leaf": "/a/plain/c/leaf", "a:c.other": "/a/plain/c/nameless"}
        assert app.url_for("a:c.leaf") == "/a/plain/c/leaf"
        with pytest.raises(ReverseNotFound):
            app.url_for("leaf")

    def test_the_same_blueprint_in_two_parents(self) -> None:
        app, left, right, shared = Vibora(), Blueprint(), Blueprint(), Blueprint()
        left.add_blueprint(shared, {"s": "/s"})
        right.add_blueprint(shared, {"s": "/s"})
        app.add_blueprint(left, {"left": "/left"})
        app.add_blueprint(right, {"right": "/right"})
        shared.add_route("/", saying("shared"), name="home")  # after all of it
        assert names(app) == {"left:s.home": "/left/s/", "right:s.home": "/right/s/"}

    def test_two_apps_do_not_share_state(self) -> None:
        shared, first, second = Blueprint(), Vibora(), Vibora()
        first.add_blueprint(shared, {"": "/first"})
        second.add_blueprint(shared, {"": "/second"})
        shared.add_route("/x", saying("x"), name="x")
        assert (names(first), names(second)) == ({"x": "/first/x"}, {"x": "/second/x"})

    def test_what_is_added_after_mounting_counts(self) -> None:
        app, outer, inner = Vibora(), Blueprint(), Blueprint()
        app.add_blueprint(outer, {"o": "/o"})
        outer.add_blueprint(inner, {"i": "/i"})
        inner.add_route("/late", saying("late"), name="late")

        @outer.handle(Events.AFTER_ENDPOINT)
        def mark(response: Response) -> None:
            response.headers["x-mark"] = "late"

        @outer.handle(404)
        async def missing() -> Response:
            return TextResponse("late 404", 404)

        with app.test_client() as client:
            response = client.get("/o/i/late")
            assert (response.text, response.headers["x-mark"]) == ("late", "late")

    def test_a_route_added_while_the_app_is_served(self) -> None:
        app, inner = Vibora(), Blueprint()
        app.add_blueprint(inner, {"i": "/i"})
        with app.test_client() as client:
            assert client.get("/i/new").status_code == 404
            inner.add_route("/new", saying("new"))
            assert client.get("/i/new").text == "new"

    def test_the_slash_at_the_end_of_a_prefix_does_not_count(self) -> None:
        app, inner = Vibora(), Blueprint()
        inner.add_route("/x", saying("x"), name="x")
        app.add_blueprint(inner, {"": "/p/"})
        assert names(app) == {"x": "/p/x"}

    def test_parameters_in_a_prefix(self) -> None:
        app, inner = Vibora(), Blueprint()

        @inner.get("/users")
        async def users(tenant: str) -> Response:
            return TextResponse(tenant)

        app.add_blueprint(inner, {"t": "/<tenant>"})
        assert app.url_for("t.users", tenant="a b") == "/a%20b/users"
        with app.test_client() as client:
            assert client.get("/a%20b/users").text == "a b"

    def test_expressions_under_a_prefix(self) -> None:
        app, inner = Vibora(), Blueprint()

        @inner.get(re.compile(r"/(?P<year>\d{4})-(?P<month>\d\d)"))
        async def archive(year: int, month: int) -> Response:
            return TextResponse(f"{year} {month}")

        app.add_blueprint(inner, {"blog": "/b.log"})
        with app.test_client() as client:
            assert client.get("/b.log/2026-11").text == "2026 11"
            assert client.get("/bxlog/2026-11").status_code == 404
        assert app.url_for("blog.archive", year=2026, month="11") == "/b.log/2026-11"

    def test_class_views(self) -> None:
        app, inner = Vibora(), Blueprint()

        class Things:
            async def get(self, number: int) -> Response:
                return TextResponse(f"get {number}")

            async def delete(self, number: int) -> Response:
                return TextResponse(f"delete {number}")

        inner.add_route("/<number>", Things)
        app.add_blueprint(inner, {"things": "/things"})
        assert app.url_for("things.Things", number=1) == "/things/1"
        with app.test_client() as client:
            assert [client.request(method, "/things/5").text for method in ("GET", "DELETE")] == ["get 5", "delete 5"]
            refused = client.post("/things/5")
            assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS")

    def test_a_decorated_handler_is_returned_as_it_is(self) -> None:
        blueprint = Blueprint()

        async def home() -> Response:
            return Response()

        def event() -> None: ...

        assert blueprint.get("/")(home) is home
        assert blueprint.handle(404)(home) is home
        assert blueprint.handle(Events.BEFORE_ENDPOINT)(event) is event

        async def around(request: Request, call_next: Callable[..., object]) -> Response:
            raise NotImplementedError

        assert blueprint.middleware(around) is around


class TestInheritance:
    def test_limits(self) -> None:
        app = Vibora(route_limits=RouteLimits(max_body_size=1))
        outer = Blueprint(limits=RouteLimits(max_body_size=10))
        silent, inner = Blueprint(), Blueprint(limits=RouteLimits(max_body_size=100))
        for blueprint in (outer, silent, inner):
            blueprint.add_route("/", saying("ok"), ["POST"])
        inner.add_route("/own", saying("ok"), ["POST"], limits=RouteLimits(max_body_size=1000))
        app.add_route("/", saying("ok"), ["POST"])
        app.add_blueprint(outer, {"": "/outer"})
        outer.add_blueprint(silent, {"": "/silent"})
        outer.add_blueprint(inner, {"": "/inner"})
        limits = {"/": 1, "/outer/": 10, "/outer/silent/": 10, "/outer/inner/": 100, "/outer/inner/own": 1000}
        with app.test_client() as client:
            for path, limit in limits.items():
                assert client.post(path, content=b"x" * limit).status_code == 200, path
                assert client.post(path, content=b"x" * (limit + 1)).status_code == 413, path

    def test_hosts(self) -> None:
        app, outer, inner = Vibora(), Blueprint(hosts="api.example.com"), Blueprint()
        inner.add_route("/", saying("inner"))
        inner.add_route("/own", saying("own"), hosts="own.example.com")
        outer.add_blueprint(inner, {"": "/i"})
        app.add_blueprint(outer)
        with app.test_client() as client:

            def status(path: str, host: str) -> int:
                return client.get(path, headers={"host": host}).status_code

            assert [status("/i/", host) for host in ("api.example.com", "example.com")] == [200, 404]
            assert [status("/i/own", host) for host in ("own.example.com", "api.example.com")] == [200, 404]

    def test_the_strategy_is_the_apps(self) -> None:
        app, inner = Vibora(router_strategy=RouterStrategy.STRICT), Blueprint()
        inner.add_route("/x", saying("x"))
        app.add_blueprint(inner, {"": "/i"})
        with app.test_client() as client:
            assert [client.get(path).status_code for path in ("/i/x", "/i/x/")] == [200, 404]


class TestRefusals:
    def test_the_same_blueprint_twice(self) -> None:
        app, inner = Vibora(), Blueprint()
        app.add_blueprint(inner, {"a": "/a"})
        with pytest.raises(DuplicatedBlueprint, match="mounted at '/a' already"):
            app.add_blueprint(inner, {"b": "/a"})

    def test_a_name_that_another_blueprint_has(self) -> None:
        app = Vibora()
        app.add_blueprint(Blueprint(), {"a": "/a"})
        with pytest.raises(DuplicatedBlueprint, match="under the name 'a' already"):
            app.add_blueprint(Blueprint(), {"a": "/b"})

    def test_cycles(self) -> None:
        first, second, third = Blueprint(), Blueprint(), Blueprint()
        first.add_blueprint(second)
        second.add_blueprint(third)
        for inner in (first, second, third):
            with pytest.raises(ConfigurationError, match="cannot be mounted in itself"):
                third.add_blueprint(inner, {"": "/again"})

    def test_an_app_is_no_blueprint(self) -> None:
        with pytest.raises(ConfigurationError, match="add_blueprint"):
            Vibora().add_blueprint(Vibora())

    @pytest.mark.parametrize("prefix", ["users", "users/"])
    def test_prefixes_start_with_a_slash(self, prefix: str) -> None:
        with pytest.raises(ConfigurationError, match="starts with '/'"):
            Vibora().add_blueprint(Blueprint(), {"": prefix})

    @pytest.mark.parametrize("name", ["a.b", "a:b"])
    def test_names_have_no_separators(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="without"):
            Vibora().add_blueprint(Blueprint(), {name: "/x"})

    def test_conflicting_routes_leave_nothing_behind(self) -> None:
        app, first, second = Vibora(), Blueprint(), Blueprint()
        first.add_route("/x", saying("first"), name="x")
        second.add_route("/y", saying("y"), name="y")
        second.add_route("/x", saying("second"), name="x2")
        app.add_blueprint(first, {"first": "/p"})
        with pytest.raises(DuplicateRoute, match="answers the same requests"):
            app.add_blueprint(second, {"second": "/p"})
        assert names(app) == {"first.x": "/p/x"}
        second.add_route("/z", saying("z"))  # it is not mounted: no conflict, no route
        assert names(app) == {"first.x": "/p/x"}

    def test_a_late_conflict_is_told_and_undone(self) -> None:
        app, first, second = Vibora(), Blueprint(), Blueprint()
        first.add_route("/x", saying("first"), name="x")
        app.add_blueprint(first)
        app.add_blueprint(second)
        with pytest.raises(DuplicateRoute):
            second.add_route("/x", saying("second"), name="x2")
        with app.test_client() as client:
            assert client.get("/x").text == "first"
