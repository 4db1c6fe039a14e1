//! deploy/docker/Dockerfile, which cannot be built here, is held against the images that are.

use std::collections::BTreeMap;

use super::{RECIPES, Recipe};

const TEXT: &str = include_str!("../../../deploy/docker/Dockerfile");

/// Instructions that Docker knows and that are used; a misspelt one is none of them.
const INSTRUCTIONS: &[&str] =
    &["CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "SHELL", "USER", "WORKDIR"];

/// Instruction and arguments, continued lines as one.
fn instructions() -> Vec<(&'static str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut continues = false;
    for line in TEXT.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let part = line.trim().trim_end_matches('\\').trim();
        match found.last_mut() {
            Some((_, arguments)) if continues => {
                arguments.push(' ');
                arguments.push_str(part);
            }
            _ => {
                let (name, arguments) = part.split_once(' ').unwrap_or((part, ""));
                found.push((name, arguments.to_owned()));
            }
        }
        continues = line.ends_with('\\');
    }
    assert!(!continues, "the last line goes on");
    found
}

/// The instructions of each stage, by its name.
fn stages() -> BTreeMap<String, Vec<(&'static str, String)>> {
    let mut stages = BTreeMap::new();
    let mut stage = String::new();
    for (name, arguments) in instructions() {
        assert!(INSTRUCTIONS.contains(&name), "{name} {arguments}");
        if name == "FROM" {
            stage = arguments.split(" AS ").nth(1).expect("a stage has a name").to_owned();
        }
        stages.entry(stage.clone()).or_insert_with(Vec::new).push((name, arguments));
    }
    stages
}

fn as_stage(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let program = recipe.program;
    let stage = program.strip_prefix("lastwords-").unwrap_or("cli");
    let mut wanted = vec![
        ("FROM", format!("scratch AS {stage}")),
        ("COPY", format!("--from=build /image/{program} /")),
        ("ENV", "PATH=/usr/bin".to_owned()),
        ("USER", recipe.user.to_owned()),
        ("ENTRYPOINT", format!("[\"/usr/bin/{program}\"]")),
    ];
    if !recipe.arguments.is_empty() {
        wanted.push(("CMD", format!("{:?}", recipe.arguments)));
    }
    wanted
}

#[test]
fn its_stages_are_the_images_made_here() {
    let mut stages = stages();
    let build = stages.remove("build").expect("a stage that builds");
    let text: String = build.iter().map(|(_, arguments)| arguments.as_str()).collect();
    for recipe in RECIPES {
        let wanted = as_stage(recipe);
        let name = wanted[0].1.trim_start_matches("scratch AS ");
        assert_eq!(stages.remove(name).as_ref(), Some(&wanted));
        assert!(text.contains(recipe.program));
    }
    assert!(stages.is_empty(), "{:?}", stages.keys());
    let of_this_version = format!("-t localhost/lastwords-agent:{}", env!("CARGO_PKG_VERSION"));
    assert!(TEXT.contains(&of_this_version));
}

#[test]
fn what_lies_beside_the_program_is_the_same() {
    let made_here = include_str!("../image.rs");
    for written in
        ["root:x:0:0:root:/:/sbin/nologin", "lastwords:x:65532:65532::/:/sbin/nologin", "hosts: files dns"]
    {
        assert!(made_here.contains(written) && TEXT.contains(written), "{written}");
    }
}
