use super::*;

/// A router with one GET route per pattern, numbered from 0.
fn router(patterns: &[&str]) -> Router {
    let mut router = Router::new();
    for (route, pattern) in patterns.iter().enumerate() {
        router.add(pattern, &["GET"], route).unwrap();
    }
    router
}

fn found<'p>(router: &Router, method: &str, path: &'p [u8]) -> Option<(usize, Vec<&'p [u8]>)> {
    match router.lookup(method.as_bytes(), path) {
        Lookup::Found { route, parameters } => Some((route, parameters.to_vec())),
        _ => None,
    }
}

/// A path, the pattern it should match, and the parameters.
type Case<'a> = (&'a str, Option<(&'a str, &'a [&'a str])>);

/// Registers the patterns in every rotation, forwards and backwards, and expects the same answers.
fn in_every_order(patterns: &[&str], cases: &[Case<'_>]) {
    for rotation in 0..patterns.len() {
        for backwards in [false, true] {
            let mut order = patterns.to_vec();
            order.rotate_left(rotation);
            if backwards {
                order.reverse();
            }
            let router = router(&order);
            for (path, expected) in cases {
                let found = found(&router, "GET", path.as_bytes());
                let found = found.map(|(route, values)| {
                    let text = |value| std::str::from_utf8(value).unwrap();
                    (
                        order[route],
                        values.into_iter().map(text).collect::<Vec<_>>(),
                    )
                });
                let expected = expected.map(|(pattern, values)| (pattern, values.to_vec()));
                assert_eq!(found, expected, "{path} in {order:?}");
            }
        }
    }
}

#[test]
fn text_wins_over_parameters_and_parameters_over_the_rest() {
    in_every_order(
        &[
            "/",
            "/users",
            "/users/",
            "/users/me",
            "/users/<id>",
            "/users/<id>/posts",
            "/users/<*rest>",
            "/<a>/<b>",
        ],
        &[
            ("/", Some(("/", &[]))),
            ("/users", Some(("/users", &[]))),
            ("/users/", Some(("/users/", &[]))),
            ("/users/me", Some(("/users/me", &[]))),
            ("/users/5", Some(("/users/<id>", &["5"]))),
            ("/users/me/posts", Some(("/users/<id>/posts", &["me"]))),
            ("/users/5/posts", Some(("/users/<id>/posts", &["5"]))),
            ("/users/5/likes", Some(("/users/<*rest>", &["5/likes"]))),
            ("/users//posts", Some(("/users/<*rest>", &["/posts"]))),
            ("/other/5", Some(("/<a>/<b>", &["other", "5"]))),
            ("/other/5/6", None),
            ("/other", None),
            ("/Users", None),
        ],
    );
}

#[test]
fn segments_are_compared_from_the_left() {
    in_every_order(
        &["/a/<x>", "/<x>/b", "/<x>/<y>", "/static/<*path>"],
        &[
            ("/a/b", Some(("/a/<x>", &["b"]))),
            ("/c/b", Some(("/<x>/b", &["c"]))),
            ("/c/d", Some(("/<x>/<y>", &["c", "d"]))),
            ("/static/b", Some(("/static/<*path>", &["b"]))),
            ("/static/a/b.css", Some(("/static/<*path>", &["a/b.css"]))),
        ],
    );
}

#[test]
fn a_dead_end_does_not_hide_another_pattern() {
    in_every_order(
        &["/a/<x>/c", "/<x>/b/d", "/<x>/<y>/<z>", "/<*rest>"],
        &[
            ("/a/b/c", Some(("/a/<x>/c", &["b"]))),
            ("/a/b/d", Some(("/<x>/b/d", &["a"]))),
            ("/a/b/e", Some(("/<x>/<y>/<z>", &["a", "b", "e"]))),
            ("/a/b/e/f", Some(("/<*rest>", &["a/b/e/f"]))),
            ("/a//e", Some(("/<*rest>", &["a//e"]))),
        ],
    );
}

#[test]
fn more_text_in_a_segment_wins() {
    in_every_order(
        &["/f/<x>", "/f/<x>.gz", "/f/<x>.tar.gz", "/f/img-<x>.tar.gz"],
        &[
            ("/f/a", Some(("/f/<x>", &["a"]))),
            ("/f/a.gz", Some(("/f/<x>.gz", &["a"]))),
            ("/f/a.tar.gz", Some(("/f/<x>.tar.gz", &["a"]))),
            ("/f/.tar.gz", Some(("/f/<x>.gz", &[".tar"]))),
            ("/f/.gz", Some(("/f/<x>", &[".gz"]))),
            ("/f/img-1.tar.gz", Some(("/f/img-<x>.tar.gz", &["1"]))),
            ("/f/img-.tar.gz", Some(("/f/<x>.tar.gz", &["img-"]))),
            ("/f/img-1.gz", Some(("/f/<x>.gz", &["img-1"]))),
        ],
    );
    in_every_order(
        &[
            "/f/img-<x>",
            "/f/img-big-<x>",
            "/f/img-big-<x>.png",
            "/g/img-<x>.png",
        ],
        &[
            ("/f/img-1", Some(("/f/img-<x>", &["1"]))),
            ("/f/img-big-1.png", Some(("/f/img-big-<x>.png", &["1"]))),
            ("/f/img-1.png", Some(("/f/img-<x>", &["1.png"]))),
            ("/f/img-big-1", Some(("/f/img-big-<x>", &["1"]))),
            ("/f/img-big-", Some(("/f/img-<x>", &["big-"]))),
            ("/f/img-", None),
            ("/g/img-7.png", Some(("/g/img-<x>.png", &["7"]))),
            ("/g/img-.png", None),
            ("/g/img.png", None),
            ("/g/img-7.png/", None),
        ],
    );
}

#[test]
fn the_rest_may_be_empty_but_a_parameter_may_not() {
    in_every_order(
        &["/static/<*path>", "/users/<id>", "/users/<id>/", "/x/<a>/y"],
        &[
            ("/static/", Some(("/static/<*path>", &[""]))),
            ("/static//", Some(("/static/<*path>", &["/"]))),
            ("/static", None),
            ("/users/", None),
            ("/users", None),
            ("/users/1/", Some(("/users/<id>/", &["1"]))),
            ("/x//y", None),
        ],
    );
    in_every_order(
        &["/<*everything>"],
        &[
            ("/", Some(("/<*everything>", &[""]))),
            ("/a/", Some(("/<*everything>", &["a/"]))),
        ],
    );
}

#[test]
fn paths_are_bytes() {
    let router = router(&["/café/<x>", "/{id}/<x>", "/100%", "/ü", "/raw/<x>", "/<x>%"]);
    for (path, expected) in [
        ("/café/é".as_bytes(), Some((0, vec!["é".as_bytes()]))),
        (b"/{id}/1", Some((1, vec![b"1"]))),
        (b"/7/1", None),
        (b"/100%25", Some((2, vec![]))),
        (b"/100%", None),
        (b"/99%25", Some((5, vec![b"99"]))),
        ("/ü".as_bytes(), Some((3, vec![]))),
        ("/u\u{308}".as_bytes(), None),
        (b"/raw/\xff\xfe", Some((4, vec![b"\xff\xfe"]))),
        (b"/raw/a%2Fb%25", Some((4, vec![b"a%2Fb%25"]))),
        (b"/caf\xe9/x", None),
        (b"/raw/<x>", Some((4, vec![b"<x>"]))),
        (b"", None),
        (b"*", None),
        (b"raw/1", None),
    ] {
        assert_eq!(found(&router, "GET", path), expected, "{path:?}");
    }
}

#[test]
fn keeps_many_parameters_in_order() {
    let names: Vec<String> = (0..40).map(|n| format!("<p{n}>")).collect();
    let router = router(&[&format!("/{}", names.join("/"))]);
    let values: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let path = format!("/{}", values.join("/"));
    let (_, parameters) = found(&router, "GET", path.as_bytes()).unwrap();
    assert_eq!(
        parameters,
        values.iter().map(String::as_bytes).collect::<Vec<_>>()
    );
}

#[test]
fn finds_each_of_many_literal_segments() {
    let patterns: Vec<String> = (0..500).map(|n| format!("/api/r{n}/<id>")).collect();
    let mut router = Router::new();
    for (route, pattern) in patterns.iter().enumerate() {
        router.add(pattern, &["GET"], route).unwrap();
        router
            .add(
                &format!("/lit/{}", "x".repeat(route)),
                &["GET"],
                1_000 + route,
            )
            .unwrap();
    }
    for route in 0..500 {
        let path = format!("/api/r{route}/7");
        assert_eq!(
            found(&router, "GET", path.as_bytes()),
            Some((route, vec![&b"7"[..]]))
        );
        let path = format!("/lit/{}", "x".repeat(route));
        assert_eq!(
            found(&router, "GET", path.as_bytes()),
            Some((1_000 + route, vec![]))
        );
    }
}

#[test]
fn head_goes_to_get_unless_it_has_its_own_route() {
    let mut router = Router::new();
    router.add("/a", &["GET"], 1).unwrap();
    router.add("/b", &["HEAD"], 2).unwrap();
    router.add("/b", &["GET"], 3).unwrap();
    router.add("/c/<x>", &["POST"], 4).unwrap();
    assert_eq!(found(&router, "HEAD", b"/a"), Some((1, vec![])));
    assert_eq!(found(&router, "HEAD", b"/b"), Some((2, vec![])));
    assert_eq!(found(&router, "GET", b"/b"), Some((3, vec![])));
    let allow = "OPTIONS, POST";
    assert_eq!(
        router.lookup(b"HEAD", b"/c/1"),
        Lookup::MethodNotAllowed { allow }
    );
}

#[test]
fn options_and_405_list_the_methods_in_order() {
    let mut router = Router::new();
    router.add("/a", &["POST", "GET"], 1).unwrap();
    router.add("/a", &["DELETE", "BREW"], 2).unwrap();
    router.add("/b/<x>", &["HEAD"], 3).unwrap();
    router.add("/c", &["OPTIONS", "PUT"], 4).unwrap();
    let allow = "BREW, DELETE, GET, HEAD, OPTIONS, POST";
    assert_eq!(router.lookup(b"OPTIONS", b"/a"), Lookup::Options { allow });
    // RFC 9110 §9.1: methods are case-sensitive.
    for method in [&b"PUT"[..], b"get", b"UNHEARD-OF", b""] {
        assert_eq!(
            router.lookup(method, b"/a"),
            Lookup::MethodNotAllowed { allow }
        );
        assert_eq!(router.lookup(method, b"/none"), Lookup::NotFound);
    }
    assert_eq!(found(&router, "BREW", b"/a"), Some((2, vec![])));
    let allow = "HEAD, OPTIONS";
    assert_eq!(
        router.lookup(b"GET", b"/b/1"),
        Lookup::MethodNotAllowed { allow }
    );
    assert_eq!(found(&router, "OPTIONS", b"/c"), Some((4, vec![])));
    let allow = "OPTIONS, PUT";
    assert_eq!(
        router.lookup(b"GET", b"/c"),
        Lookup::MethodNotAllowed { allow }
    );
    assert_eq!(router.lookup(b"OPTIONS", b"/none"), Lookup::NotFound);
}

#[test]
fn a_method_goes_to_the_best_pattern_that_has_it() {
    let mut router = Router::new();
    router.add("/users/me", &["GET"], 1).unwrap();
    router.add("/users/<id>", &["GET", "DELETE"], 2).unwrap();
    router.add("/users/<id>", &["PATCH"], 3).unwrap();
    router.add("/<*path>", &["PUT"], 4).unwrap();
    assert_eq!(found(&router, "GET", b"/users/me"), Some((1, vec![])));
    assert_eq!(found(&router, "HEAD", b"/users/me"), Some((1, vec![])));
    assert_eq!(
        found(&router, "DELETE", b"/users/me"),
        Some((2, vec![&b"me"[..]]))
    );
    assert_eq!(
        found(&router, "PATCH", b"/users/me"),
        Some((3, vec![&b"me"[..]]))
    );
    assert_eq!(
        found(&router, "PUT", b"/users/me"),
        Some((4, vec![&b"users/me"[..]]))
    );
    let allow = "DELETE, GET, HEAD, OPTIONS, PATCH, PUT";
    assert_eq!(
        router.lookup(b"POST", b"/users/me"),
        Lookup::MethodNotAllowed { allow }
    );
    assert_eq!(
        router.lookup(b"OPTIONS", b"/users/5"),
        Lookup::Options { allow }
    );
    let allow = "OPTIONS, PUT";
    assert_eq!(
        router.lookup(b"GET", b"/x"),
        Lookup::MethodNotAllowed { allow }
    );
}

#[test]
fn lists_methods_even_when_the_combinations_are_too_many_to_keep() {
    let mut router = Router::new();
    let methods: Vec<String> = (0..20).map(|n| format!("M{n:02}")).collect();
    for (route, method) in methods.iter().enumerate() {
        router
            .add(&format!("/{route}/<x>"), &[method], route)
            .unwrap();
    }
    router.add("/<a>/<b>", &["LAST"], 99).unwrap();
    assert!(router.allow.len() <= MAX_ALLOW + methods.len());
    let Lookup::MethodNotAllowed { allow } = router.lookup(b"GET", b"/19/1") else {
        panic!("not 405");
    };
    assert!(
        allow
            .split(", ")
            .all(|name| ["LAST", "M19", "OPTIONS"].contains(&name)),
        "{allow}"
    );
    assert!(allow.contains("LAST") || allow.contains("M19"));
}

#[test]
fn the_same_pattern_and_method_twice_is_refused() {
    for (first, second) in [
        ("/a", "/a"),
        ("/", "/"),
        ("/<x>", "/<y>"),
        ("/a/<x>/b", "/a/<y>/b"),
        ("/p-<x>.s", "/p-<y>.s"),
        ("/<*x>", "/<*y>"),
        ("/100%", "/100%"),
    ] {
        let mut router = Router::new();
        router.add(first, &["GET", "POST"], 7).unwrap();
        let duplicate = RouteError::Duplicate {
            existing: 7,
            method: "POST".into(),
        };
        assert_eq!(router.add(second, &["PUT", "POST"], 8), Err(duplicate));
        // Nothing of the refused route is left, and other methods are welcome.
        assert_eq!(router.add(second, &["PUT"], 9), Ok(()));
        assert_eq!(router.add(second, &["put"], 10), Ok(()));
    }
    let mut router = Router::new();
    assert_eq!(router.add("/a", &["GET", "GET"], 1), Ok(()));
}

#[test]
fn methods_must_be_tokens() {
    for methods in [&[][..], &[""], &["GET POST"], &["GET", "G\r\n"]] {
        let error = Router::new().add("/", methods, 0);
        assert!(
            matches!(error, Err(RouteError::BadPattern(_))),
            "{methods:?}"
        );
    }
}

#[test]
fn there_may_be_sixty_four_methods() {
    let names: Vec<String> = (0..57).map(|n| format!("M{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut router = Router::new();
    router.add("/a", &names, 0).unwrap();
    assert_eq!(found(&router, "M56", b"/a"), Some((0, vec![])));
    assert!(matches!(
        router.add("/b", &["ONE-MORE"], 1),
        Err(RouteError::BadPattern(_))
    ));
    assert_eq!(router.add("/b", &["M3", "GET"], 1), Ok(()));
}

#[test]
fn the_common_methods_have_their_numbers() {
    let router = Router::new();
    for (number, method) in COMMON.iter().enumerate() {
        assert_eq!(
            router.method_number(method.as_bytes()).map(usize::from),
            Some(number)
        );
    }
}

/// What a lookup has to say, in short. Expression 0 matches what ends with "!", 1 what begins with "/x" or "x".
fn ask(router: &Router, method: &str, host: &str, path: &str) -> String {
    let mut matches = |expression: usize, text: &[u8]| match expression {
        0 => text.ends_with(b"!"),
        1 => text.starts_with(b"/x") || text.starts_with(b"x"),
        other => panic!("nobody added expression {other}"),
    };
    match router.lookup_for(
        method.as_bytes(),
        host.as_bytes(),
        path.as_bytes(),
        &mut matches,
    ) {
        Lookup::Found { route, parameters } if parameters.is_empty() => route.to_string(),
        Lookup::Found { route, parameters } => {
            let values = parameters
                .iter()
                .map(|value| String::from_utf8_lossy(value));
            format!("{route} {}", values.collect::<Vec<_>>().join(" "))
        }
        Lookup::Matched { route } => format!("matched {route}"),
        Lookup::Redirect { route } => format!("redirect {route}"),
        Lookup::Options { allow } => format!("204 {allow}"),
        Lookup::MethodNotAllowed { allow } => format!("405 {allow}"),
        Lookup::NotFound => "404".to_owned(),
    }
}

fn scope<'a>(pattern: &'a str, hosts: &'a [Host<'a>], strategy: Strategy) -> Scope<'a> {
    Scope {
        pattern: Pattern::Text(pattern),
        methods: &["GET"],
        hosts,
        strategy,
    }
}

#[test]
fn routes_of_the_host_come_first_and_those_of_none_last() {
    let mut router = Router::new();
    router.add("/<*path>", &["GET"], 0).unwrap();
    router.add("/a", &["POST"], 1).unwrap();
    assert!(!router.is_conditional());
    let named = |name| [Host::Name(name)];
    for (route, pattern, hosts) in [
        (2, "/a", &named("Example.com")[..]),
        (3, "/a", &named("*.example.COM.")[..]),
        (4, "/<x>", &named("*.b.example.com")[..]),
        (
            5,
            "/a",
            &[Host::Name("c.example.com"), Host::Name("[::1]")][..],
        ),
        (6, "/a", &[Host::Expression(1)][..]),
        (7, "/b", &[Host::Expression(0), Host::Expression(0)][..]),
    ] {
        let scope = scope(pattern, hosts, Strategy::Strict);
        assert_eq!(router.add_scoped(&scope, route), Ok(()), "{route}");
    }
    assert!(router.is_conditional());
    for (host, path, expected) in [
        ("example.com", "/a", "2"),
        ("EXAMPLE.com:8000", "/a", "2"),
        ("example.com.", "/a", "2"),
        ("example.com.:80", "/a", "2"),
        ("example.com", "/b", "0 b"),
        ("a.example.com", "/a", "3"),
        ("a.a.example.com", "/a", "3"),
        ("b.example.com", "/a", "3"),
        ("a.b.example.com", "/a", "4 a"),
        ("a.b.example.com", "/a/b", "0 a/b"),
        ("c.example.com", "/a", "5"),
        ("c.example.com", "/b", "0 b"),
        ("[::1]", "/a", "5"),
        ("[::1]:80", "/a", "5"),
        ("x!", "/a", "6"),
        ("X!", "/b", "7"),
        ("x", "/b", "0 b"),
        ("notexample.com", "/a", "0 a"),
        (".example.com", "/a", "0 a"),
        ("example.org", "/a", "0 a"),
        ("", "/a", "0 a"),
        ("[", "/a", "0 a"),
    ] {
        assert_eq!(ask(&router, "GET", host, path), expected, "{host}{path}");
    }
    assert_eq!(ask(&router, "POST", "example.com", "/a"), "1");
    assert_eq!(
        ask(&router, "PUT", "example.com", "/a"),
        "405 GET, HEAD, OPTIONS, POST"
    );
    let long = format!("{}.example.com", "a".repeat(300));
    assert_eq!(ask(&router, "GET", &long, "/a"), "0 a");
}

#[test]
fn without_routes_for_every_host_another_host_has_nothing() {
    let mut router = Router::new();
    let hosts = [Host::Name("a.test"), Host::Name("b.test")];
    let scope = scope("/a", &hosts, Strategy::Strict);
    router.add_scoped(&scope, 1).unwrap();
    assert_eq!(ask(&router, "GET", "c.test", "/a"), "404");
    assert_eq!(ask(&router, "POST", "c.test", "/a"), "404");
    assert_eq!(
        ask(&router, "OPTIONS", "b.test", "/a"),
        "204 GET, HEAD, OPTIONS"
    );
}

#[test]
fn a_host_is_a_name() {
    for host in [
        "", "*", "*.", ".", "..", ".a", "*.*.a", "a*.b", "*a", "a:80", "a:", "[::1]:80", "[",
        "a b", "a/b", "é", "a%41",
    ] {
        let hosts = [Host::Name("fine.test"), Host::Name(host)];
        let mut router = Router::new();
        let error = router.add_scoped(&scope("/", &hosts, Strategy::Strict), 0);
        assert!(
            matches!(&error, Err(RouteError::BadPattern(text)) if text.starts_with(&format!("host {host:?}: "))),
            "{host:?} {error:?}"
        );
        assert!(!router.is_conditional());
        assert_eq!(ask(&router, "GET", "fine.test", "/"), "404");
    }
}

#[test]
fn routes_of_different_hosts_are_no_duplicates_but_those_of_one_are() {
    let mut router = Router::new();
    let [a, b, c] = ["a.test", "b.test", "c.test"].map(Host::Name);
    let mut add =
        |hosts: &[Host<'_>], route| router.add_scoped(&scope("/", hosts, Strategy::Strict), route);
    let duplicate = |existing| {
        Err(RouteError::Duplicate {
            existing,
            method: "GET".into(),
        })
    };
    assert_eq!(add(&[], 0), Ok(()));
    assert_eq!(add(&[a, b], 1), Ok(()));
    assert_eq!(add(&[c, b], 2), duplicate(1));
    assert_eq!(add(&[Host::Name("A.TEST.")], 2), duplicate(1));
    // Nothing of what was refused is left.
    assert_eq!(add(&[c], 3), Ok(()));
    assert_eq!(add(&[Host::Expression(1)], 4), Ok(()));
    assert_eq!(add(&[Host::Expression(1)], 5), duplicate(4));
    assert_eq!(add(&[Host::Expression(0)], 5), Ok(()));
}

#[test]
fn expressions_are_tried_last_in_their_order() {
    let mut router = Router::new();
    let mut add = |expression, methods: &[&str], hosts: &[Host<'_>], route| {
        let scope = Scope {
            pattern: Pattern::Expression(expression),
            methods,
            hosts,
            strategy: Strategy::Redirect,
        };
        router.add_scoped(&scope, route)
    };
    assert_eq!(add(0, &["GET"], &[], 1), Ok(()));
    assert_eq!(add(1, &["GET", "PUT"], &[], 2), Ok(()));
    assert_eq!(add(0, &["DELETE"], &[], 3), Ok(()));
    assert_eq!(add(1, &["GET"], &[Host::Name("a.test")], 4), Ok(()));
    assert_eq!(
        add(0, &["POST", "GET"], &[], 5),
        Err(RouteError::Duplicate {
            existing: 1,
            method: "GET".into()
        })
    );
    assert!(matches!(
        add(0, &[], &[], 5),
        Err(RouteError::BadPattern(_))
    ));
    router.add("/x/<n>", &["GET"], 6).unwrap();
    router.add("/y!", &["POST"], 7).unwrap();
    for (method, path, expected) in [
        ("GET", "/x/1", "6 1"),
        ("GET", "/x1!", "matched 1"),
        ("HEAD", "/x1!", "matched 1"),
        ("GET", "/x1", "matched 2"),
        ("PUT", "/x1!", "matched 2"),
        ("PUT", "/x/1", "matched 2"),
        ("DELETE", "/x1!", "matched 3"),
        ("DELETE", "/x1", "405 GET, HEAD, OPTIONS, PUT"),
        ("POST", "/x1!", "405 DELETE, GET, HEAD, OPTIONS, PUT"),
        ("OPTIONS", "/y!", "204 DELETE, GET, HEAD, OPTIONS, POST"),
        ("GET", "/y!", "matched 1"),
        ("GET", "/y!/", "404"),
        ("GET", "/z", "404"),
    ] {
        assert_eq!(ask(&router, method, "", path), expected, "{method} {path}");
    }
    assert_eq!(ask(&router, "GET", "a.test", "/x1!"), "matched 4");
    assert_eq!(ask(&router, "GET", "a.test", "/x/1"), "matched 4");
    assert_eq!(ask(&router, "PUT", "a.test", "/x1"), "matched 2");
}

#[test]
fn the_slash_at_the_end_counts_as_the_strategy_says() {
    for (strategy, other) in [
        (Strategy::Strict, None),
        (Strategy::Redirect, Some("redirect")),
        (Strategy::Clone, Some("")),
    ] {
        let mut router = Router::new();
        for (route, pattern) in ["/", "/a", "/b/", "/c/<x>", "/d/<x>.y/", "/e/<*x>", "/f//"]
            .iter()
            .enumerate()
        {
            let scope = scope(pattern, &[], strategy);
            router.add_scoped(&scope, route).unwrap();
        }
        for (path, other_path, route, value) in [
            ("/a", "/a/", 1, ""),
            ("/b/", "/b", 2, ""),
            ("/c/1", "/c/1/", 3, " 1"),
            ("/d/1.y/", "/d/1.y", 4, " 1"),
        ] {
            let found = format!("{route}{value}");
            assert_eq!(ask(&router, "GET", "", path), found, "{strategy:?} {path}");
            let expected = match other {
                None => "404".to_owned(),
                Some("") => found,
                Some(word) => format!("{word} {route}"),
            };
            for method in ["GET", "HEAD"] {
                assert_eq!(
                    ask(&router, method, "", other_path),
                    expected,
                    "{strategy:?} {other_path}"
                );
            }
            let (options, wrong) = if other.is_some() {
                ("204 GET, HEAD, OPTIONS", "405 GET, HEAD, OPTIONS")
            } else {
                ("404", "404")
            };
            assert_eq!(ask(&router, "OPTIONS", "", other_path), options);
            assert_eq!(ask(&router, "POST", "", other_path), wrong);
        }
        for (path, expected) in [
            ("/", "0"),
            ("//", "404"),
            ("/a//", "404"),
            ("/c//", "404"),
            ("/e", "404"),
            ("/e/", "5 "),
            ("/e/1/", "5 1/"),
            ("/f/", "404"),
            ("/f///", "404"),
        ] {
            assert_eq!(
                ask(&router, "GET", "", path),
                expected,
                "{strategy:?} {path}"
            );
        }
    }
}

#[test]
fn what_a_route_has_for_its_own_comes_before_another_spelling() {
    let cases = [
        ("/a", "GET", Strategy::Clone),
        ("/a/", "POST", Strategy::Redirect),
        ("/a/", "GET", Strategy::Redirect),
        ("/<x>/", "GET", Strategy::Strict),
        ("/b", "GET", Strategy::Redirect),
        ("/c/<*rest>", "GET", Strategy::Clone),
        ("/c", "GET", Strategy::Clone),
    ];
    for backwards in [false, true] {
        let mut order: Vec<_> = cases.iter().enumerate().collect();
        if backwards {
            order.reverse();
        }
        let mut router = Router::new();
        for (route, (pattern, method, strategy)) in order {
            let scope = Scope {
                methods: &[method],
                ..scope(pattern, &[], *strategy)
            };
            assert_eq!(router.add_scoped(&scope, route), Ok(()));
        }
        for (method, path, expected) in [
            ("GET", "/a", "0"),
            ("POST", "/a", "redirect 1"),
            ("GET", "/a/", "2"),
            ("POST", "/a/", "1"),
            // The other spelling is a pattern like any other: text comes before a parameter.
            ("GET", "/b/", "redirect 4"),
            ("GET", "/d/", "3 d"),
            ("GET", "/c/", "6"),
            ("GET", "/c/1", "5 1"),
        ] {
            assert_eq!(ask(&router, method, "", path), expected, "{method} {path}");
        }
    }
}

#[test]
fn other_spellings_must_be_told_apart_too() {
    let mut router = Router::new();
    router
        .add_scoped(&scope("/a<x>", &[], Strategy::Clone), 7)
        .unwrap();
    let conflict = Err(RouteError::Conflict { existing: 7 });
    assert_eq!(router.add("/<x>b/", &["GET"], 8), conflict);
    let scoped = scope("/<x>b/", &[Host::Name("a.test")], Strategy::Strict);
    assert_eq!(router.add_scoped(&scoped, 8), Ok(()));
    let scoped = scope("/a<x>", &[Host::Name("a.test")], Strategy::Clone);
    assert_eq!(
        router.add_scoped(&scoped, 9),
        Err(RouteError::Conflict { existing: 8 })
    );
}

/// How well a pattern matches a path, segment by segment (smaller is better), and the parameters.
struct Naive<'p> {
    ranks: Vec<(u8, usize)>,
    values: Vec<&'p [u8]>,
}

fn naive_match<'p>(pattern: &str, path: &'p str) -> Option<Naive<'p>> {
    let (mut ranks, mut values) = (Vec::new(), Vec::new());
    let mut left = Some(path.strip_prefix('/')?);
    for part in pattern.split('/').skip(1) {
        let path = left?;
        if part.starts_with("<*") {
            ranks.push((3, 0));
            values.push(path.as_bytes());
            return Some(Naive { ranks, values });
        }
        let (segment, tail) = match path.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (path, None),
        };
        left = tail;
        if let Some((prefix, suffix)) = part.split_once('<') {
            let (_, suffix) = suffix.split_once('>')?;
            let value = segment.strip_prefix(prefix)?.strip_suffix(suffix)?;
            values.push((!value.is_empty()).then_some(value.as_bytes())?);
            let text = prefix.len() + suffix.len();
            ranks.push(if text == 0 { (2, 0) } else { (1, 100 - text) });
        } else {
            ranks.push((segment == part).then_some((0, 0))?);
        }
    }
    left.is_none().then_some(Naive { ranks, values })
}

/// What a list of patterns and methods, sorted for this path, has to say.
fn naive_lookup(model: &[(String, &str)], method: &str, path: &str) -> String {
    let mut candidates: Vec<_> = model
        .iter()
        .enumerate()
        .filter_map(|(route, (pattern, own))| {
            let Naive { ranks, values } = naive_match(pattern, path)?;
            // HEAD goes to GET, after the HEAD route of the same pattern.
            let served = match (method, *own) {
                ("HEAD", "GET") => Some(1),
                _ => (method == *own).then_some(0),
            };
            Some((ranks, served, route, values, *own))
        })
        .collect();
    candidates.sort();
    if let Some((_, _, route, values, _)) =
        candidates.iter().find(|(_, served, ..)| served.is_some())
    {
        return format!("{route} {values:?}");
    }
    let mut allow: Vec<&str> = candidates.iter().map(|(.., own)| *own).collect();
    if allow.is_empty() {
        return "not found".to_owned();
    }
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.push("OPTIONS");
    allow.sort_unstable();
    allow.dedup();
    format!("{} {}", method == "OPTIONS", allow.join(", "))
}

#[test]
fn behaves_like_a_sorted_list_of_patterns() {
    let segments = "a b ab <N> <N> a<N> ab<N> <N>b <N>bb a<N>b  <*N>";
    let segments: Vec<&str> = segments.split(' ').collect();
    let parts: Vec<&str> = "a b ab abb aab ba c  aabb abab".split(' ').collect();
    let methods = ["GET", "POST", "HEAD", "OPTIONS", "X-OTHER"];
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut matches, mut refusals) = (0, 0);
    for _ in 0..300 {
        let mut router = Router::new();
        let mut model: Vec<(String, &str)> = Vec::new();
        for _ in 0..random(14) {
            let mut pattern = String::new();
            for place in 0..=random(3) {
                let segment = segments[random(segments.len())].replace('N', &format!("p{place}"));
                pattern = format!("{pattern}/{segment}");
                if segment.starts_with("<*") {
                    break;
                }
            }
            let method = methods[random(methods.len())];
            match router.add(&pattern, &[method], model.len()) {
                Ok(()) => model.push((pattern, method)),
                Err(RouteError::Duplicate { existing, .. }) => {
                    assert_eq!(model[existing], (pattern, method));
                }
                Err(RouteError::Conflict { existing }) => {
                    assert!(existing < model.len());
                    refusals += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        for _ in 0..60 {
            let mut path = String::new();
            for _ in 0..=random(3) {
                path = format!("{path}/{}", parts[random(parts.len())]);
            }
            for method in methods {
                let answer = match router.lookup(method.as_bytes(), path.as_bytes()) {
                    Lookup::Found { route, parameters } => {
                        matches += 1;
                        format!("{route} {:?}", &*parameters)
                    }
                    Lookup::Options { allow } => format!("true {allow}"),
                    Lookup::MethodNotAllowed { allow } => format!("false {allow}"),
                    Lookup::NotFound => "not found".to_owned(),
                    other @ (Lookup::Matched { .. } | Lookup::Redirect { .. }) => {
                        panic!("{other:?}")
                    }
                };
                let expected = naive_lookup(&model, method, &path);
                assert_eq!(answer, expected, "{method} {path} in {model:?}");
            }
        }
    }
    assert!(matches > 1_000 && refusals > 50, "{matches} {refusals}");
}
