use super::*;

fn line(text: &str) -> String {
    Redactor::default().line(text)
}

#[test]
fn hides_secrets_in_lines() {
    let table = [
        ("DB_PASSWORD=hunter2", "DB_PASSWORD=<redacted>"),
        ("PGPASSWORD=hunter2 psql -h db", "PGPASSWORD=<redacted> psql -h db"),
        ("MYSQL_PWD=hunter2", "MYSQL_PWD=<redacted>"),
        ("dbPassword: hunter2", "dbPassword: <redacted>"),
        (
            r#"{"user":"bob","password":"hun\"ter2","port":1}"#,
            r#"{"user":"bob","password":"<redacted>","port":1}"#,
        ),
        ("{'api_key': 'abc def'}", "{'api_key': '<redacted>'}"),
        ("connect --token abc123 --host db", "connect --token <redacted> --host db"),
        ("connect --api-key=abc123 --host db", "connect --api-key=<redacted> --host db"),
        ("client_secret=s3cr3t&grant_type=code", "client_secret=<redacted>&grant_type=code"),
        ("Server=db;Password=hunter2;Database=x", "Server=db;Password=<redacted>;Database=x"),
        ("error: password: hunter2", "error: password: <redacted>"),
        ("SECRET_KEY_BASE=abcd", "SECRET_KEY_BASE=<redacted>"),
        ("AccountKey=Zm9vYmFy==", "AccountKey=<redacted>"),
        ("password => hunter2", "password => <redacted>"),
        ("TOKEN2=abc123", "TOKEN2=<redacted>"),
        ("password=geheim€wort", "password=<redacted>"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer <redacted>"),
        ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic <redacted>"),
        ("authorization=\"Token abcdef012345\"", "authorization=\"<redacted>\""),
        ("Authorization: abcdef012345", "Authorization: <redacted>"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN", "got <redacted>"),
        ("key id AKIAIOSFODNN7EXAMPLE used", "key id <redacted> used"),
        ("push with ghp_0123456789abcdefghijklmnopqrstuvwxyz", "push with <redacted>"),
        ("postgres://app:hunter2@db:5432/orders", "postgres://app:<redacted>@db:5432/orders"),
        ("redis://:hunter2@cache:6379", "redis://:<redacted>@cache:6379"),
        ("amqp://app:p@ss@mq/", "amqp://app:<redacted>@mq/"),
        ("root:hunter2@tcp(db:3306)/orders", "root:<redacted>@tcp(db:3306)/orders"),
        ("key=0123456789abcdef0123456789abcdef", "key=<redacted>"),
        (
            "TLS=-----BEGIN RSA PRIVATE KEY-----\\nMIIB\\n-----END RSA PRIVATE KEY----- rest",
            "TLS=<redacted> rest",
        ),
        ("-----BEGIN PRIVATE KEY-----MIIB", "<redacted>"),
        ("GET /reset?token=abc&x=1", "GET /reset?token=<redacted>&x=1"),
    ];
    for (text, expected) in table {
        assert_eq!(line(text), expected);
    }
}

#[test]
fn keeps_what_is_no_secret() {
    let table = [
        "open /etc/tls/private/key.pem: permission denied",
        "--private-key=/etc/tls/key.pem",
        "--password-file=/run/secrets/db",
        "--token-file /var/run/secrets/kubernetes.io/serviceaccount/token",
        "token: /var/run/secrets/kubernetes.io/serviceaccount/token",
        "PASSWORD_FILE=/run/secrets/db-password",
        "PWD=/app",
        "OLDPWD=/usr/share/nginx/html",
        "registry:5000/team/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "http://registry:5000/team/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "image team/token:1.2.3",
        "digest: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        "tokenizer=bpe max_tokens=100 --max-tokens 5",
        "SyntaxError: Unexpected token } in JSON at position 5",
        "token: expired",
        "password: authentication failed for user \"app\"",
        "secretName: app-tls",
        "compass=north bypass=yes keyboard=de",
        "PASSWORD=$(DB_PASSWORD) TOKEN=${TOKEN} SECRET=",
        "enable_password=true token=null",
        "basic authentication failed",
        "https://db:5432/orders?sslmode=require",
        "key=value",
        "cache key: user:1234",
        "primary key=orders_pkey_of_the_table",
        "2026-11-22T10:00:00Z listening on 0.0.0.0:8080",
        "panic: runtime error: index out of range [5] with length 3",
        "password: \"\"",
        "Ünïcödé: größe=3",
        "",
    ];
    for text in table {
        assert_eq!(line(text), text);
    }
}

#[test]
fn hides_the_value_of_an_option_in_the_next_argument() {
    let table: &[(&[&str], &[&str])] = &[
        (&["app", "--token", "abc", "--port", "80"], &["app", "--token", "<redacted>", "--port", "80"]),
        (&["app", "--password=two words", "x"], &["app", "--password=<redacted>", "x"]),
        (&["app", "-password", "abc"], &["app", "-password", "<redacted>"]),
        (&["app", "--token", "--port"], &["app", "--token", "--port"]),
        (&["app", "--token", "/run/secrets/token"], &["app", "--token", "/run/secrets/token"]),
        (&["app", "--token-file", "token.txt"], &["app", "--token-file", "token.txt"]),
        (&["sh", "-c", "DB_PASSWORD=abc exec app"], &["sh", "-c", "DB_PASSWORD=<redacted> exec app"]),
        (&["app", "--lisen=:8080"], &["app", "--lisen=:8080"]),
        (&["app", "DB_URL=mysql://u:p@h/d"], &["app", "DB_URL=mysql://u:<redacted>@h/d"]),
        (&["app", "--token"], &["app", "--token"]),
        (&["-p", "secret"], &["-p", "secret"]),
    ];
    for (arguments, expected) in table {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        assert_eq!(Redactor::default().arguments(&arguments), *expected);
    }
}

#[test]
fn hides_private_keys_that_span_lines() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let base64 = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    let whole = lines(&format!(
        "start\n-----BEGIN EC PRIVATE KEY-----\n{base64}\n{base64}\n-----END EC PRIVATE KEY-----\nend"
    ));
    let shown = Redactor::default().lines(&whole);
    assert_eq!(shown, ["start", REDACTED, REDACTED, REDACTED, REDACTED, "end"]);

    let cut_before = lines(&format!("ready: yes\n{base64}\nabc=\n{base64}\n-----END PRIVATE KEY-----\nend"));
    let shown = Redactor::default().lines(&cut_before);
    assert_eq!(shown, ["ready: yes", base64, "abc=", REDACTED, REDACTED, "end"]);

    let certificate = lines("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----");
    assert_eq!(Redactor::default().lines(&certificate), certificate);
}

#[test]
fn patterns_of_the_operator_hide_their_group_or_all_they_match() {
    let patterns = [r"customer (\d+)".to_owned(), r"\bIBAN\s*DE\d+".to_owned()];
    let redactor = Redactor::new(&patterns).unwrap();
    assert_eq!(
        redactor.line("customer 4711 paid from IBAN DE12"),
        "customer <redacted> paid from <redacted>"
    );

    let problems = Redactor::new(&["(".to_owned(), "a*".to_owned()]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("unclosed group"), "{problems:?}");
    assert!(problems[1].contains("empty"), "{problems:?}");
    assert!(Redactor::new(&vec!["x".to_owned(); MAX_EXTRA_PATTERNS + 1]).is_err());
}

#[test]
fn every_constant_pattern_compiles() {
    for pattern in [&PRIVATE_KEY, &KNOWN_TOKENS, &URL_PASSWORD, &AUTHORIZATION] {
        assert!(!pattern.as_str().is_empty());
    }
}

#[test]
fn redacting_twice_changes_nothing_more() {
    for text in ["--token abc --x", "postgres://a:b@c/d", "Bearer abcdef0123456789", "password: 'a b'"] {
        let once = line(text);
        assert_eq!(line(&once), once);
    }
}

#[test]
fn a_long_value_is_hidden_to_its_end() {
    assert_eq!(line(&format!("password={} end", "x1".repeat(5000))), "password=<redacted> end");
    assert_eq!(line(&format!("password='{}' end", "x ".repeat(5000))), "password='<redacted>' end");
}

/// Without optimisation this takes a second; with time that grows with the square of the length it would take minutes.
#[test]
fn long_hostile_lines_take_no_long_time() {
    let start = std::time::Instant::now();
    for unit in ["a=", "key=", "pw=$", "x:y@", "http://a:", "--token "] {
        assert!(!line(&unit.repeat(32 * 1024 / unit.len())).is_empty());
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}
