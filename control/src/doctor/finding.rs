//! One thing that was found out, and how a report is judged by all of them.

use serde::Serialize;

/// How bad it is. The order is that of the report's own verdict: the worst counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Could not be found out from here.
    Unknown,
    /// Works, and not for everybody or not as well as it could.
    Warning,
    /// Does not work.
    Failure,
}

impl Verdict {
    /// The word in the report.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// What it is about, one word that does not change.
    pub(super) subject: &'static str,
    /// How bad it is.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What that means for calls; left out where it is plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) means: Option<String>,
    /// The command or setting that changes it; left out where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Ok, found)
    }

    /// It could not be found out.
    pub(super) fn unknown(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Unknown, found)
    }

    /// It works, and not for everybody or not as well as it could.
    pub(super) fn warning(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Warning, found)
    }

    /// It does not work.
    pub(super) fn failure(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Failure, found)
    }

    fn new(subject: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { subject, verdict, found: found.into(), means: None, fix: None }
    }

    /// Adds what it means.
    pub(super) fn means(mut self, text: impl Into<String>) -> Self {
        self.means = Some(text.into());
        self
    }

    /// Adds what to do.
    pub(super) fn fix(mut self, text: impl Into<String>) -> Self {
        self.fix = Some(text.into());
        self
    }
}

/// The worst verdict; `Ok` of none.
pub(super) fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_verdict() {
        assert_eq!(worst(&[]), Verdict::Ok);
        let some = [Finding::unknown("a", ""), Finding::ok("b", "")];
        assert_eq!(worst(&some), Verdict::Unknown);
        let bad = [Finding::failure("a", ""), Finding::warning("b", ""), Finding::ok("c", "")];
        assert_eq!(worst(&bad), Verdict::Failure);
    }
}
