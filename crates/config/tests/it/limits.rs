//! Everything has a limit, and this file meets each of them.

use config::Code;

fn codes(text: &str) -> Vec<Code> {
    config::parse(text, "cluster.toml").diagnostics.iter().map(|d| d.code).collect()
}

fn cluster() -> String {
    "[cluster]\nname = \"x\"\nprofile = \"lan\"\n".to_string()
}

fn node(index: usize, more: &str) -> String {
    let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
    format!("[[node]]\nname = \"n{index}\"\nlinks = [\"{address}\"]\n{more}\n")
}

fn resource(index: usize, more: &str) -> String {
    format!("[[resource]]\nname = \"r{index}\"\nkind = \"process\"\ncommand = [\"/x\"]\n{more}\n")
}

#[test]
fn a_text_larger_than_the_limit_is_refused_unread() {
    let text = " ".repeat(config::TEXT_BYTES_MAX + 1);
    assert_eq!(codes(&text), [Code::TooLarge]);
}

#[test]
fn a_file_larger_than_the_limit_or_no_text_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.toml");
    for (bytes, code) in [
        (vec![b' '; config::TEXT_BYTES_MAX + 1], Code::TooLarge),
        (b"\x7fELF\xff\xfe".to_vec(), Code::NotText),
    ] {
        std::fs::write(&path, bytes).expect("the file can be written");
        let loaded = config::load(&path);
        assert_eq!(loaded.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), [code]);
        assert!(loaded.spec.is_none() && loaded.text.is_empty());
    }
}

#[test]
fn more_snippets_than_the_limit_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.toml");
    let snippets = directory.path().join("conf.d");
    std::fs::create_dir(&snippets).expect("a directory");
    for index in 0..=config::SNIPPETS_MAX {
        std::fs::write(snippets.join(format!("{index}.toml")), "").expect("a snippet");
    }
    std::fs::write(&path, cluster() + "include = \"conf.d\"\n").expect("the file can be written");
    let found: Vec<Code> = config::load(&path).diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(found, [Code::Include]);
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let deep = 100_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("[[{}a]]", "a.".repeat(deep)),
    ] {
        assert!(codes(&text).contains(&Code::Syntax), "{}", &text[..20]);
    }
}

#[test]
fn the_most_nodes_resources_and_hooks_are_accepted_and_one_more_is_not() {
    let voter = |index: usize| node(index, if index < 3 { "voter = true" } else { "" });
    let most = |nodes: usize, resources: usize, hooks: usize| {
        let mut text = cluster();
        text.extend((0..nodes).map(voter));
        text.extend((0..resources).map(|index| resource(index, "")));
        text.extend((0..hooks).map(|_| "[[hook]]\ncommand = [\"/x\"]\n".to_string()));
        codes(&text)
    };
    let (nodes, resources, hooks) =
        (model::spec::NODES_MAX, model::spec::RESOURCES_MAX, model::spec::HOOKS_MAX);
    assert!(!most(nodes, resources, hooks).contains(&Code::TooMany));
    assert!(most(nodes + 1, 0, 0).contains(&Code::TooMany));
    assert!(most(3, resources + 1, 0).contains(&Code::TooMany));
    assert!(most(3, 0, hooks + 1).contains(&Code::TooMany));
}

#[test]
fn nine_chosen_voters_are_accepted_and_ten_are_not() {
    let text = |count: usize| -> String {
        cluster() + &(0..count).map(|i| node(i, "voter = true")).collect::<String>()
    };
    assert!(!codes(&text(9)).contains(&Code::TooManyVoters));
    assert!(codes(&text(10)).contains(&Code::TooManyVoters));
    let implicit: String = (0..8).map(|index| node(index, "")).collect();
    assert!(codes(&(cluster() + &implicit)).contains(&Code::VotersNotChosen));
    let seven: String = (0..7).map(|index| node(index, "")).collect();
    assert!(!codes(&(cluster() + &seven)).contains(&Code::VotersNotChosen));
}

#[test]
fn long_chains_of_resources_are_walked_without_recursion() {
    let count = model::spec::RESOURCES_MAX;
    let mut text = cluster() + &(0..3).map(|index| node(index, "")).collect::<String>();
    for index in 0..count {
        let after = (index + 1) % count;
        text += &resource(index, &format!("after = [\"r{after}\"]"));
    }
    let parsed = config::parse(&text, "chain.toml");
    let errors: Vec<_> = parsed.diagnostics.iter().filter(|d| d.is_error()).collect();
    assert_eq!(errors.len(), 1, "one circle");
    assert_eq!(errors[0].code, Code::Cycle);
}

#[test]
fn more_errors_than_are_shown_are_counted() {
    let mut text = cluster();
    text.extend((0..1_000).map(|index| format!("wrong{index} = 1\n")));
    let found = codes(&text);
    assert_eq!(found.len(), config::DIAGNOSTICS_MAX + 1);
    assert_eq!(found.last(), Some(&Code::More));
}

#[test]
fn very_long_lines_are_named_and_not_shown() {
    let text = format!("wrong = \"{}\"\n", "x".repeat(4_000));
    let parsed = config::parse(&text, "cluster.toml");
    let rendered = config::render(&parsed.diagnostics, false);
    assert!(rendered.lines().all(|line| line.chars().count() < 200), "{rendered}");
    assert!(rendered.contains("cluster.toml:1:1"), "{rendered}");
}
