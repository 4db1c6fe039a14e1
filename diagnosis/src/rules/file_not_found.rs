//! A file the program needs is not there.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::{Call, Caller};
use crate::case::Case;
use crate::evidence::Failure;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{context, errno, log, noise, startup, words};

/// An interpreter prints its trace and leaves within this (milliseconds).
const MODULE_MS: f64 = 1_000.0;
/// A module that exists is found under the second ending at the latest; this many failed ones mean that it is not there.
const MODULE_ENDINGS: usize = 3;

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let missing =
        matches!(failure.errno, errno::ENOENT | errno::ENOTDIR | errno::ENAMETOOLONG | errno::ELOOP);
    if !missing || failure.syscall == "connect" || noise::executes(&failure.syscall) {
        return None;
    }
    // Somebody else's missing file says nothing about this process.
    if call.weight.caller == Caller::Other {
        return None;
    }
    // One of the endings that a runtime tried in turn: what it looked for has none of them.
    let tried = EvidenceRef::Failure(call.index);
    if let Some(module) = module(case).filter(|module| !call.named && module.evidence.contains(&tried)) {
        return Some(module);
    }
    let source = of_ruby(case, call);
    let path = words::one_line(source.map_or_else(|| whole(case, failure), |source| &source.path));
    let is_link = failure.errno == errno::ELOOP;
    let mut summary = format!(
        "{} {} {path}{}: {} {}",
        words::program(&failure.comm),
        if is_link { "may not follow the symbolic links of" } else { "did not find" },
        context::on_volume(case, &failure.path),
        words::failed(failure),
        before_the_end(case, call)
    );
    if call.rivals > 0 && !call.named {
        summary.push_str(&format!(
            "; {} other {} were missing shortly before",
            call.rivals,
            if call.rivals == 1 { "file" } else { "files" }
        ));
    }
    Some(Finding {
        cause: Cause::FileNotFound,
        confidence: match source {
            Some(_) if call.by_dying() => call.confidence().max(Confidence::Medium),
            _ if is_link => call.confidence().min(Confidence::Medium),
            _ => call.confidence(),
        },
        summary,
        remedy: if is_link {
            format!(
                "see whether the links of {path} go in a circle, or the program wants a file that is none (O_NOFOLLOW): each file of a ConfigMap or Secret is a link, except one that is mounted by subPath"
            )
        } else {
            remedy(case, source.map_or(&failure.path, |source| &source.path))
        },
        object: path,
        evidence: call_and_exit(case, call),
    })
}

/// The file in Ruby that `require_relative` looked for: `x.rb`, and right after it the library `x.so`. Neither is there.
fn of_ruby<'a>(case: &Case<'a>, call: &Call<'_>) -> Option<&'a Failure> {
    /// Nothing stands between the two looks (milliseconds).
    const BETWEEN_MS: f64 = 5.0;
    let library = call.failure;
    let name = library.path.strip_suffix(".so")?;
    let is_source = |failure: &Failure| {
        let between_ms = failure.last_before_death_ms - library.last_before_death_ms;
        failure.tid == library.tid
            && failure.errno == errno::ENOENT
            && failure.path.strip_suffix(".rb") == Some(name)
            && (0.0..=BETWEEN_MS).contains(&between_ms)
    };
    case.failures().map(|(_, failure)| failure).find(|failure| is_source(failure))
}

/// The path; of one whose folder could not be told, as the command line names it.
fn whole<'a>(case: &Case<'a>, failure: &'a Failure) -> &'a str {
    let path = failure.path.as_str();
    let arguments = case.evidence.process.iter().flat_map(|process| &process.args);
    let named = || {
        let words = arguments.flat_map(|argument| argument.split('='));
        let ends = |word: &&str| {
            word.starts_with('/') && word.strip_suffix(path).is_some_and(|folder| folder.ends_with('/'))
        };
        words.into_iter().find(ends)
    };
    if failure.path_unresolved && !path.starts_with('/') { named().unwrap_or(path) } else { path }
}

fn remedy(case: &Case<'_>, path: &str) -> String {
    let field = case.field();
    let Some(mount) = context::mount(case, path) else {
        return format!(
            "put the file into the image, or mount what holds it at that path ({field}.volumeMounts, its subPath, and a ConfigMap or Secret that is optional or lacks the key); or correct the path in {field}.args or {field}.env"
        );
    };
    let source = words::one_line(&mount.source);
    let below =
        path.strip_prefix(mount.path.trim_end_matches('/')).unwrap_or_default().trim_start_matches('/');
    let key = words::one_line(below);
    if mount.source.starts_with("configmap") || mount.source.starts_with("secret") {
        return format!(
            "add the key {key} to {source} (or to the items of the volume {}), which is mounted at {}; or correct the path in {field}.args or {field}.env",
            words::one_line(&mount.volume),
            words::one_line(&mount.path)
        );
    }
    format!(
        "put {key} onto {source}, which is mounted at {} and hides what the image has there; or correct the path in {field}.args or {field}.env",
        words::one_line(&mount.path)
    )
}

/// The last words of an interpreter name a module or package that it did not find: Python lists folders for it, and no call fails.
pub(super) fn told(case: &Case<'_>) -> Option<Finding> {
    const PHRASES: [&str; 9] = [
        // `python3 -m` writes its own path before it.
        ": No module named ",
        "Error: Cannot find module ",
        "Cannot find package ",
        "Could not find or load main class ",
        "NoClassDefFoundError: ",
        "there is no package called ",
        "cannot load such file -- ",
        "Can't locate ",
        "ClassNotFoundException: ",
    ];
    let startup = startup::told(case)?;
    let (line, name) = log::last_lines(case).find_map(|line| {
        let lua = || line.text.split_once("module '").filter(|(_, rest)| rest.contains("' not found"));
        let said = PHRASES.iter().find_map(|phrase| line.text.split_once(phrase)).or_else(lua);
        // Perl cannot locate the method of an object either.
        let (_, rest) = said.filter(|(_, rest)| !rest.starts_with("object method"))?;
        let name = rest.trim_start_matches(['\'', '"', '‘']).split(['\'', '"', '’', ' ', '(', ';']).next()?;
        (!name.is_empty()).then_some((line, name))
    })?;
    let object = words::one_line(name);
    Some(Finding {
        cause: Cause::FileNotFound,
        confidence: Confidence::Medium,
        summary: format!(
            "{}; its log names what it did not find, {object}: {}",
            startup.ended(case, ""),
            line.quoted()
        ),
        remedy: format!("install {object} in the image, or correct the name"),
        object,
        evidence: vec![line.evidence, EvidenceRef::Exit],
    })
}

/// node looks for a package in the folder `node_modules` beside the script and in each folder above, and found none of these.
pub(super) fn packages(case: &Case<'_>) -> Option<Finding> {
    const FOLDER: &str = "/node_modules";
    let code = case.exit_code().filter(|code| *code != 0)?;
    let child = case.passed_on().map_or(0, |(_, child)| child.pid);
    let evidence: Vec<EvidenceRef> = case
        .failures()
        .filter(|(_, failure)| {
            (failure.by_dying_thread || (child != 0 && failure.pid == child))
                && failure.errno == errno::ENOENT
                && failure.path.ends_with(FOLDER)
                && failure.at_work_before_death_ms() <= MODULE_MS
        })
        .map(|(index, _)| EvidenceRef::Failure(index))
        .chain([EvidenceRef::Exit])
        .collect();
    let EvidenceRef::Failure(nearest) = *evidence.first()? else { return None };
    let nearest = case.evidence.failures.get(nearest)?;
    // Two at least: the search ends at the root.
    if evidence.len() <= 2 || case.calls.iter().any(crate::calls::Call::may_decide) {
        return None;
    }
    let object = words::one_line(&nearest.path);
    Some(Finding {
        cause: Cause::FileNotFound,
        confidence: Confidence::Low,
        summary: format!(
            "{} looked for a package, found no {object} nor a folder node_modules above it, and ended with exit code {code} {} later",
            words::program(&nearest.comm),
            words::span(nearest.last_before_death_ms)
        ),
        remedy: format!("install the packages into {object} when the image is built (npm ci)"),
        object,
        evidence,
    })
}

/// True for the ending of a file that a language's runtime loads as a module.
fn is_of_code(ending: &str) -> bool {
    const ENDINGS: [&str; 18] = [
        "js", "json", "node", "mjs", "cjs", "ts", "tsx", "jsx", "py", "pyc", "so", "rb", "pm", "pmc", "lua",
        "php", "class", "wasm",
    ];
    ENDINGS.contains(&ending)
}

/// A language's runtime asked for a module under the endings that it knows (`x`, `x.js`, `x.json`) and found none: one that exists
/// is found before the last of them.
pub(super) fn module(case: &Case<'_>) -> Option<Finding> {
    case.exit_code().filter(|code| *code != 0)?;
    // node loads the file of a worker in a thread of its own; a shell passes on how its child ended.
    let child = case.passed_on().map_or(0, |(_, child)| child.pid);
    let looks = || {
        case.failures().filter(|(_, failure)| {
            (failure.by_dying_thread
                || failure.pid == case.main_pid()
                || (child != 0 && failure.pid == child))
                && failure.errno == errno::ENOENT
                && noise::only_looks(&failure.syscall)
                && failure.at_work_before_death_ms() <= MODULE_MS
        })
    };
    let (_, last) = looks().next_back()?;
    // Perl looks into the same folders for every module, and into this one last.
    let in_last_folder = last.path.contains("/site_perl/") && last.path.ends_with(".pm");
    let name = if in_last_folder { last.path.as_str() } else { words::stem(&last.path) };
    let is_same = |path: &str| {
        if in_last_folder {
            words::base_name(path) == words::base_name(name)
        } else {
            words::stem(path) == name
        }
    };
    let mut evidence: Vec<EvidenceRef> = looks()
        .filter(|(_, failure)| is_same(&failure.path))
        .map(|(index, _)| EvidenceRef::Failure(index))
        .collect();
    let tried = evidence.len();
    if tried < MODULE_ENDINGS {
        return None;
    }
    evidence.push(EvidenceRef::Exit);
    // For a folder node asks for what its package.json calls `main`, and only then for `index`.
    let main = name.strip_suffix("/index").and_then(|folder| {
        let within = |path: &str| {
            path.strip_prefix(folder)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| !rest.starts_with("index"))
        };
        looks().find(|(_, failure)| within(&failure.path))
    });
    let object = words::one_line(main.map_or(name, |(_, failure)| &failure.path));
    let confidence = if last.by_dying_thread { Confidence::Medium } else { Confidence::Low };
    let endings = || {
        let of_name = looks().filter(|(_, failure)| is_same(&failure.path) && failure.path != name);
        of_name.filter_map(|(_, failure)| failure.path.strip_prefix(name)?.strip_prefix('.'))
    };
    if !in_last_folder && !endings().all(is_of_code) {
        // The name as it was given may have been asked for by itself.
        evidence.extend(
            looks()
                .map(|(index, failure)| (EvidenceRef::Failure(index), failure))
                .filter(|(tried, failure)| failure.path == name && !evidence.contains(tried))
                .map(|(tried, _)| tried)
                .collect::<Vec<_>>(),
        );
        let endings: Vec<String> = endings().map(|ending| format!(".{ending}")).collect();
        return Some(Finding {
            cause: Cause::FileNotFound,
            confidence,
            summary: format!(
                "{} did not find {object}{}, nor a file of that name with an ending behind it ({}), and ended with exit code {} {} later",
                words::program(&last.comm),
                context::on_volume(case, name),
                words::one_line(&endings.join(", ")),
                case.exit_code().unwrap_or_default(),
                words::span(last.last_before_death_ms)
            ),
            remedy: remedy(case, name),
            object,
            evidence,
        });
    }
    Some(Finding {
        cause: Cause::FileNotFound,
        confidence,
        summary: format!(
            "{} found the module {object} {} and ended with exit code {} {} later",
            words::program(&last.comm),
            if in_last_folder {
                format!("in none of {tried} places")
            } else {
                format!("under none of {tried} endings")
            },
            case.exit_code().unwrap_or_default(),
            words::span(last.last_before_death_ms)
        ),
        remedy: format!("put {object} into the image, or correct the place from which it is loaded"),
        object,
        evidence,
    })
}
