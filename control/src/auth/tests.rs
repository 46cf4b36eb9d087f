use axum::http::HeaderValue;

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const WRONG: &str = "fedcba9876543210fedcba9876543210";

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn auth(admin: Option<&str>) -> Auth {
    let config = SecurityConfig {
        admin: admin.map(|key| Secret(key.to_owned())),
        self_registration: true,
        token_lifetime: Duration::from_secs(60),
    };
    let store = Store::in_memory().expect("memory is there");
    // One turn at a time, whatever the machine: an order of turns can be told then.
    Auth::with_gate(store, &config, Gate::with(1, 256))
}

/// With the client `plugin` registered.
async fn with_plugin() -> Auth {
    let auth = auth(Some("secret"));
    auth.register("plugin", KEY, address(9), true).await.expect("it is the first");
    auth
}

fn authorization(value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("visible characters");
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn basic_header(id: &str, key: &str) -> HeaderMap {
    authorization(&format!("Basic {}", STANDARD.encode(format!("{id}:{key}"))))
}

fn count(auth: &Auth, outcome: &'static str) -> u64 {
    auth.counters().attempts.get_or_create(&OutcomeLabel { outcome }).get()
}

#[test]
fn basic_credentials_are_read_as_go_reads_them() {
    let read = |text: &str| basic(text.as_bytes());
    let pair = |id: &str, key: &str| Some((id.to_owned(), key.to_owned()));
    assert_eq!(read("Basic YTpi"), pair("a", "b"));
    assert_eq!(read("bAsIc YTpiOmM="), pair("a", "b:c"), "the first colon ends the name");
    assert_eq!(read("Basic Og=="), pair("", ""));
    for bad in ["", "Basic", "Basic ", "Basic YQ==", "Basic YTpiOmM", "Basic !", "Digest YTpi"] {
        assert_eq!(read(bad), None, "{bad:?}");
    }
    assert_eq!(basic(b"Basic \xff\xff"), None);
    assert_eq!(read("Basic Ov/+"), None, "no UTF-8");
}

#[tokio::test]
async fn each_way_in_and_each_refusal() {
    let auth = with_plugin().await;
    let ask = async |headers: HeaderMap| auth.authenticate(&headers, address(1)).await;
    let admin = Ok(Client { id: String::new(), is_admin: true });
    let plugin = Ok(Client { id: "plugin".to_owned(), is_admin: false });
    assert_eq!(ask(HeaderMap::new()).await, Err(AuthError::InvalidHeader));
    assert_eq!(ask(authorization("Basic x")).await, Err(AuthError::InvalidHeader));
    assert_eq!(ask(authorization("bearer x")).await, Err(AuthError::InvalidHeader));
    assert_eq!(ask(authorization("Bearer x")).await, Err(AuthError::UnknownToken));
    assert_eq!(ask(basic_header("", KEY)).await, Err(AuthError::NoName));
    assert_eq!(ask(basic_header("plugin", WRONG)).await, Err(AuthError::WrongKey));
    assert_eq!(ask(basic_header("plugin", "")).await, Err(AuthError::WrongKey));
    assert_eq!(ask(basic_header("nobody", KEY)).await, Err(AuthError::WrongKey));
    assert_eq!(ask(basic_header(&"x".repeat(65), KEY)).await, Err(AuthError::WrongKey));
    assert_eq!(ask(basic_header("plugin", &KEY.repeat(33))).await, Err(AuthError::WrongKey));
    assert_eq!(ask(basic_header("plugin", KEY)).await, plugin);
    assert_eq!(ask(basic_header("", "secret")).await, admin);
    assert_eq!(ask(basic_header("plugin", "secret")).await, admin, "the name is not looked at");
    let token = auth.login("plugin", KEY, address(1)).await.expect("the key is right");
    assert_eq!(token.len(), 32);
    assert_eq!(ask(authorization(&format!("Bearer {token}"))).await, plugin);
}

#[tokio::test]
async fn no_password_is_the_admins_where_there_is_no_admin() {
    let auth = auth(None);
    for key in ["", "secret"] {
        let asked = auth.authenticate(&basic_header("", key), address(1)).await;
        assert_eq!(asked, Err(AuthError::NoName));
    }
}

#[tokio::test]
async fn registrations_are_checked_in_order() {
    let auth = with_plugin().await;
    let register = async |id: &str, key: &str| auth.register(id, key, address(1), false).await;
    let text = |result: Result<(), RegisterError>| result.expect_err("refused").to_string();
    assert_eq!(text(register("", &KEY[1..]).await), "key not long enough");
    assert_eq!(text(register("", KEY).await), "error: empty key");
    assert_eq!(text(register("plugin", KEY).await), "already registered");
    let long = "x".repeat(65);
    assert!(text(register(&long, KEY).await).contains("longer than 64 bytes"));
    assert!(text(register("b", &"k".repeat(1025)).await).contains("longer than 1024 bytes"));
    assert_eq!(register("b", &"k".repeat(1024)).await, Ok(()));
    assert_eq!(auth.unregister("b").await, Ok(()));
    assert_eq!(auth.unregister("b").await, Err(UnregisterError::NotFound));
}

#[tokio::test]
async fn a_right_key_is_remembered_until_the_client_is_gone() {
    let auth = with_plugin().await;
    let headers = basic_header("plugin", KEY);
    for _ in 0..100 {
        assert!(
            auth.authenticate(&headers, address(1)).await.is_ok(),
            "it never counts as a guess"
        );
    }
    assert_eq!((count(&auth, "right"), count(&auth, "remembered")), (1, 99));
    let wrong = auth.authenticate(&basic_header("plugin", WRONG), address(1)).await;
    assert_eq!(wrong, Err(AuthError::WrongKey));
    let token = auth.login("plugin", KEY, address(1)).await.expect("the key is right");
    auth.unregister("plugin").await.expect("it is there");
    assert_eq!(auth.authenticate(&headers, address(1)).await, Err(AuthError::WrongKey));
    let bearer = authorization(&format!("Bearer {token}"));
    assert_eq!(auth.authenticate(&bearer, address(1)).await, Err(AuthError::UnknownToken));
}

#[tokio::test]
async fn what_is_checked_while_the_client_goes_is_not_remembered() {
    let auth = with_plugin().await;
    // As if `unregister` had come between the look at the store and this.
    auth.0.store.remove("plugin").expect("memory is there");
    auth.remember("plugin", KEY);
    auth.known().tokens.issue("plugin", "token", Instant::now() + Duration::from_secs(60));
    assert_eq!(auth.still_registered("plugin"), Err(AuthError::WrongKey));
    assert!(!auth.is_remembered("plugin", KEY));
    let found = auth.known().tokens.find(b"token", Instant::now());
    assert_eq!(found, Err(AuthError::UnknownToken));
}

#[tokio::test(start_paused = true)]
async fn tokens_and_remembered_keys_expire() {
    let auth = with_plugin().await;
    let first = auth.login("plugin", KEY, address(1)).await.expect("the key is right");
    let token = auth.login("plugin", KEY, address(1)).await.expect("the key is right");
    let ask = async |token: &str| {
        let headers = authorization(&format!("Bearer {token}"));
        auth.authenticate(&headers, address(1)).await.map(|client| client.id)
    };
    assert_eq!(ask(&first).await, Err(AuthError::UnknownToken), "the second replaced it");
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(ask(&token).await, Ok("plugin".to_owned()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask(&token).await, Err(AuthError::ExpiredToken));
    assert_eq!(ask(&token).await, Err(AuthError::UnknownToken));
    assert!(auth.is_remembered("plugin", KEY));
    tokio::time::advance(REMEMBERED_FOR).await;
    assert!(!auth.is_remembered("plugin", KEY));
}

/// Wrong keys for `plugin` from one address, as many at a time as there are.
fn flood(auth: &Auth, from: IpAddr, requests: usize) -> Vec<tokio::task::JoinHandle<AuthError>> {
    let request = |n: usize| {
        let (auth, headers) = (auth.clone(), basic_header("plugin", &format!("{WRONG}{n}")));
        tokio::spawn(async move {
            auth.authenticate(&headers, from).await.expect_err("the key is wrong")
        })
    };
    (0..requests).map(request).collect()
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_wrong_keys_keeps_nobody_else_out() {
    let auth = with_plugin().await;
    let flooders: Vec<_> = (1..=3).flat_map(|from| flood(&auth, address(from), 200)).collect();
    tokio::task::yield_now().await;
    // The same client from elsewhere, and another client, while the flood waits for its turns.
    let plugin = auth.authenticate(&basic_header("plugin", KEY), address(8)).await;
    assert_eq!(plugin.map(|client| client.id), Ok("plugin".to_owned()));
    assert_eq!(auth.register("other", KEY, address(7), false).await, Ok(()));
    let answered = count(&auth, "wrong");
    assert!(answered < 20, "they did not wait for the flood to end, but for {answered}");
    let mut limited = 0;
    for flooder in flooders {
        match flooder.await.expect("it does not panic") {
            AuthError::WrongKey => {}
            AuthError::TooMany(wait) => {
                assert!(wait > Duration::ZERO);
                limited += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(count(&auth, "wrong") + limited, 600);
    assert!(count(&auth, "wrong") <= 3 * 32, "a burst each was looked at");
    // Nor does the flooder's own address keep out a key that was right.
    assert!(auth.authenticate(&basic_header("plugin", KEY), address(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn guesses_at_the_admins_key_are_limited_too() {
    let auth = auth(Some("secret"));
    for n in 0..32 {
        let asked = auth.authenticate(&basic_header("", &format!("guess{n}")), address(1)).await;
        assert_eq!(asked, Err(AuthError::NoName));
    }
    let asked = auth.authenticate(&basic_header("", "secret"), address(1)).await;
    assert!(matches!(asked, Err(AuthError::TooMany(_))), "not even the right one: {asked:?}");
    assert!(auth.authenticate(&basic_header("", "secret"), address(2)).await.is_ok());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(auth.authenticate(&basic_header("", "secret"), address(1)).await.is_ok());
}
