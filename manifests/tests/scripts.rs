//! Functions of the Jobs' scripts on the pods' answers, without any server. Each case breaks one
//! promise in one answer, and expects the first line that names it. Other tests run the scripts on
//! real servers.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rstest::rstest;

const LIBRARY: &str = concat!(
    include_str!("../scripts/lib.sh"),
    include_str!("../scripts/reshape.sh")
);

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

/// Returns the answers of three pods, two primaries and a replica of the second.
fn answers() -> String {
    let flags = |own: usize, node: usize| {
        let role = if node == 2 { "slave" } else { "master" };
        if own == node {
            format!("myself,{role}")
        } else {
            role.to_owned()
        }
    };
    let pod = |own: usize| {
        let role = if own == 2 {
            "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_link_status:up\r"
        } else {
            "role:master\r\nconnected_slaves:1\r"
        };
        format!(
            "pod vk-{own} {own}\nPONG\n\
             {A} 10.0.0.0:6379@16379,vk-0 {} - 0 0 1 connected 0-8191\n\
             {C} 10.0.0.2:6379@16379,vk-2 {} {B} 0 0 2 connected\n\
             {B} 10.0.0.1:6379@16379,vk-1 {} - 0 0 2 connected 8192-16383\n\
             cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_known_nodes:3\r\n\
             # Replication\r\n{role}\n\
             name\n{A}\nstate\nsuccess\nmessage\n\n",
            flags(own, 0),
            flags(own, 2),
            flags(own, 1),
        )
    };
    (0..3).map(pod).collect()
}

/// Returns the answers, with that of pod `ordinal` changed.
fn changed(ordinal: usize, change: impl Fn(&str) -> String) -> String {
    let all = answers();
    let mut parts: Vec<String> = all.split_inclusive("message\n\n").map(str::to_owned).collect();
    parts[ordinal] = change(&parts[ordinal]);
    parts.concat()
}

fn replaced(ordinal: usize, from: &str, to: &str) -> String {
    let answers = changed(ordinal, |part| part.replace(from, to));
    assert_ne!(answers, self::answers(), "pod {ordinal} does not say {from:?}");
    answers
}

/// Runs a function of the library on `input`. Returns true if it succeeded, and its output.
fn run(call: &str, input: &str) -> (bool, String) {
    let mut shell = Command::new("sh")
        .args(["-c", &format!("{LIBRARY}\n{call}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut stdin = shell.stdin.take().expect("stdin is piped");
    // A function that has read enough closes its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = shell.wait_with_output().expect("the shell ends");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
    )
}

#[test]
fn nothing_is_broken_where_all_is_well() {
    let all = "answers knows ok links still agree";
    assert_eq!(
        run(&format!("judge 3 '{all}'"), &answers()),
        (true, String::new())
    );
    assert_eq!(run("judge 3 runs", &answers()), (true, String::new()));
}

#[rstest]
#[case::silent(
    "answers",
    replaced(1, "PONG", "Could not connect to Valkey at vk-1:6379: Connection refused"),
    "pod vk-1 to answer PING, last answer: Could not connect to Valkey at vk-1:6379: Connection refused"
)]
#[case::loading(
    "answers",
    replaced(1, "PONG", "LOADING Valkey is loading the dataset in memory"),
    "pod vk-1 to answer PING, last answer: LOADING Valkey is loading the dataset in memory"
)]
#[case::stranger("knows", replaced(2, &format!("{A} 10.0.0.0:6379@16379,vk-0 master - 0 0 1 connected 0-8191\n"), ""),
    "every pod to know 3 nodes: pod vk-2 knows 2 nodes")]
#[case::failed(
    "knows",
    replaced(0, "slave", "slave,fail?"),
    "every pod to know 3 nodes: pod vk-0 sees 10.0.0.2:6379@16379,vk-2(slave,fail?)"
)]
#[case::out_of_touch(
    "knows",
    replaced(0, "2 connected\n", "2 disconnected\n"),
    "every pod to know 3 nodes: pod vk-0 sees 10.0.0.2:6379@16379,vk-2(link disconnected)"
)]
#[case::down(
    "ok",
    replaced(2, "cluster_state:ok", "cluster_state:fail"),
    "cluster_state:ok on pod vk-2, which says fail with 16384 of 16384 slots ok"
)]
#[case::slots_missing(
    "ok",
    replaced(0, "slots_ok:16384", "slots_ok:16383"),
    "cluster_state:ok on pod vk-0, which says ok with 16383 of 16384 slots ok"
)]
#[case::unlinked(
    "links",
    replaced(2, "link_status:up", "link_status:down"),
    "the replication link of pod vk-2 to be up, it is down"
)]
#[case::moving(
    "still",
    replaced(1, "success", "snapshotting"),
    "the slot migration of pod vk-1 to end, it is snapshotting"
)]
#[case::open(
    "agree",
    replaced(1, "8192-16383", "8192-16383 [93-<-aaaa]"),
    "no slot to be open on pod vk-1"
)]
#[case::other_owner(
    "agree",
    replaced(2, "0-8191", "0-8190"),
    "pod vk-2 to agree on the slots with pod vk-0"
)]
#[case::no_owner(
    "agree",
    replaced(2, " 0-8191", ""),
    "pod vk-2 to agree on the slots with pod vk-0"
)]
#[case::unknown("agree", replaced(0, &format!("{C} 10.0.0.2:6379@16379,vk-2 slave {B} 0 0 2 connected\n"), ""),
    "pod vk-0 to know pod vk-2")]
#[case::not_a_cluster("", changed(1, |_| "pod vk-1 1\nPONG\nERR This instance has cluster support disabled\n".to_owned()),
    "pod vk-1 to answer CLUSTER INFO: ERR This instance has cluster support disabled")]
#[case::not_asked("ok", changed(2, |_| String::new()), "all 3 pods to be asked, 2 were")]
fn the_first_broken_promise_is_named(
    #[case] promises: &str,
    #[case] answers: String,
    #[case] expected: &str,
) {
    assert_eq!(
        run(&format!("judge 3 '{promises}'"), &answers),
        (false, expected.to_owned())
    );
}

#[test]
fn another_password_is_an_answer_but_no_pong() {
    let refused = "pod vk-1 1\nAUTH failed: WRONGPASS invalid username-password pair\nNOAUTH Authentication required.\n";
    let answers = changed(1, |_| refused.to_owned());
    assert_eq!(run("judge 3 runs", &answers), (true, String::new()));
    let expected = "pod vk-1 to answer PING, last answer: NOAUTH Authentication required.";
    assert_eq!(run("judge 3 answers", &answers), (false, expected.to_owned()));
}

/// Runs a function with an `ask_all` that returns `answers`.
fn asked(call: &str, answers: &str) -> (bool, String) {
    run(
        &format!("answers=$(cat)\nask_all() {{ printf '%s\\n' \"$answers\"; }}\n{call}"),
        answers,
    )
}

#[test]
fn a_survey_tells_pods_from_strangers() {
    let stranger = format!("{C} 10.0.0.9:6379@16379,vk-9 slave,fail {B} 0 0 2 disconnected\n");
    let answers = changed(1, |part| {
        part.replace(&format!("{C} 10.0.0.2"), &format!("{stranger}{C} 10.0.0.2"))
    })
    .replace(&format!("{C} 10.0.0.9"), &format!("{} 10.0.0.9", "d".repeat(40)));
    let expected = format!(
        "- {} replica {B} 0 - 10.0.0.9 slave,fail\n0 {A} primary - 8192 0-8191 10.0.0.0 master\n\
         1 {B} primary - 8192 8192-16383 10.0.0.1 myself,master\n2 {C} replica {B} 0 - 10.0.0.2 slave",
        "d".repeat(40)
    );
    assert_eq!(asked("survey 3 1", &answers), (true, expected));
    assert_eq!(
        asked("strangers 3", &answers),
        (true, format!("{} 10.0.0.9 0", "d".repeat(40)))
    );
}

#[test]
fn a_pod_that_comes_back_with_its_memory_is_not_the_seed() {
    // Pods 0 and 1 are the cluster and have forgotten pod 2, which remembers a cluster of three.
    let line = format!("{C} 10.0.0.2:6379@16379,vk-2 slave {B} 0 0 2 connected\n");
    let forgotten: String = answers()
        .split_inclusive("message\n\n")
        .map(|part| match part.starts_with("pod vk-2") {
            true => part.to_owned(),
            false => part.replace(&line, "").replace("known_nodes:3", "known_nodes:2"),
        })
        .collect();
    assert_eq!(asked("seed 3", &forgotten), (true, "0".to_owned()));
    assert_eq!(
        asked("seed 3", &answers().replace("known_nodes:3", "known_nodes:1")),
        (true, String::new())
    );
}

/// A round of answers shows whether there is anything to do.
#[rstest]
#[case::as_it_is(answers(), "2", true)]
#[case::another_number_of_primaries(answers(), "1", false)]
#[case::shares_differ(answers().replace("0-8191", "0-9000").replace("8192-16383", "9001-16383"), "2", false)]
#[case::a_link_is_down(replaced(2, "master_link_status:up", "master_link_status:down"), "2", false)]
#[case::slots_are_moving(replaced(0, "state\nsuccess", "state\nreplicating"), "2", false)]
fn nothing_is_to_be_done_only_where_everything_is_as_wanted(
    #[case] answers: String,
    #[case] primaries: &str,
    #[case] wanted: bool,
) {
    let call = format!("REPLICAS_PER_PRIMARY=0\nas_wanted 3 {primaries}");
    assert_eq!(asked(&call, &answers), (wanted, String::new()));
}

/// Replicas beyond each primary's need can become primaries, the highest pods first.
#[rstest]
#[case::none("1", "2", "")]
#[case::one("0", "1", "4")]
#[case::both("0", "2", "4\n3")]
fn replicas_that_are_too_many_are_spare(#[case] needed: &str, #[case] wanted: &str, #[case] spare: &str) {
    let survey = format!(
        "- {} replica {A} 0 - 10.0.0.9 slave\n0 {A} primary - 8192 0-8191 10.0.0.0 master\n\
         1 {B} primary - 8192 8192-16383 10.0.0.1 master\n3 {C} replica {A} 0 - 10.0.0.3 slave\n\
         4 {} replica {B} 0 - 10.0.0.4 slave\n",
        "d".repeat(40),
        "e".repeat(40)
    );
    let found = run(&format!("spare_replicas {needed} {wanted}"), &survey);
    assert_eq!(found, (true, spare.to_owned()));
}
