//! The interpreter that workers of Python nodes run in, and the package in it.

use std::path::Path;

use serde::Deserialize;

use super::finding::Finding;
use super::programs;

/// What `python3` says, as a shell would find it here.
pub(super) type Facts = Result<Interpreter, String>;

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct Interpreter {
    /// The interpreter's file.
    program: String,
    /// Its version.
    python: String,
    /// The version of the package; none if it is not installed, or was copied there.
    package: Option<String>,
    /// Whether it can be imported.
    imported: bool,
    /// Why the package cannot be imported; empty if it can, or is not there.
    problem: String,
}

/// The oldest that the package runs in.
const OLDEST: (u32, u32) = (3, 11);

const QUESTION: &str = r#"
import importlib.metadata, json, platform, sys
package, imported, problem = None, False, ""
try:
    package = importlib.metadata.version("remotemedia")
except importlib.metadata.PackageNotFoundError:
    pass
try:
    import remotemedia.worker
    imported = True
except BaseException as error:
    if getattr(error, "name", None) != "remotemedia" or package is not None:
        problem = f"{type(error).__name__}: {error}"
print(json.dumps({"program": sys.executable, "python": platform.python_version(),
                  "package": package, "imported": imported, "problem": problem}))
"#;

pub(super) async fn read() -> Facts {
    let said = programs::ask(Path::new("python3"), ["-c", QUESTION]).await?;
    serde_json::from_str(&said).map_err(|error| format!("python3 said something else: {error}"))
}

pub(super) fn judge(facts: &Facts) -> Finding {
    let check = "python";
    let ours = env!("CARGO_PKG_VERSION");
    let found = match facts {
        Ok(found) => found,
        Err(why) => {
            let needed = "Python 3.11 or later, if there shall be nodes in Python";
            return Finding::note(
                check,
                format!("no python3: {why}"),
                needed,
                "apt-get install python3 python3-venv",
            );
        }
    };
    let Interpreter { program, python, package, imported, problem } = found;
    let interpreter = format!("{program} (Python {python})");
    let install = format!("{program} -m pip install ./python-nodes, in the sources of version {ours}");
    match package {
        _ if version(python).is_some_and(|version| version < OLDEST) => Finding::note(
            check,
            interpreter,
            "Python 3.11 or later, if there shall be nodes in Python",
            "python3.11 -m venv nodes && nodes/bin/pip install ./python-nodes",
        ),
        Some(_) | None if !problem.is_empty() => {
            let found = format!("{interpreter} cannot import remotemedia: {problem}");
            Finding::problem(check, found, "a package that is built for this interpreter", install)
        }
        Some(package) if package != ours => {
            let found = format!("{interpreter} has remotemedia {package}");
            Finding::problem(check, found, format!("version {ours}, as this program"), install)
        }
        Some(package) => Finding::ok(check, format!("{interpreter} has remotemedia {package}")),
        None if *imported => Finding::ok(check, format!("{interpreter} has remotemedia, of no told version")),
        None => {
            let found = format!("{interpreter} has no package remotemedia");
            Finding::note(check, found, "it, if there shall be nodes in Python", install)
        }
    }
}

fn version(python: &str) -> Option<(u32, u32)> {
    let mut numbers = python.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn of(python: &str, package: Option<&str>, problem: &str) -> Finding {
        judge(&Ok(Interpreter {
            program: "/usr/bin/python3".to_owned(),
            python: python.to_owned(),
            package: package.map(str::to_owned),
            imported: package.is_some() && problem.is_empty(),
            problem: problem.to_owned(),
        }))
    }

    #[test]
    fn a_package_that_does_not_fit_is_a_problem_and_a_missing_one_a_note() {
        let ours = env!("CARGO_PKG_VERSION");
        assert_eq!(of("3.12.1", Some(ours), "").level, Level::Ok);
        assert_eq!(of("3.12.1", Some("0.0.9"), "").level, Level::Problem);
        assert_eq!(of("3.12.1", Some(ours), "ImportError: no symbol").level, Level::Problem);
        assert_eq!(of("3.12.1", None, "").level, Level::Note);
        assert_eq!(of("3.9.2", Some(ours), "").level, Level::Note);
        assert_eq!(judge(&Err("not found".to_owned())).level, Level::Note);
    }
}
