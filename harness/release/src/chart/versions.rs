//! Two versions of one chart, for an upgrade between them. With an older chart from the user, the
//! chart under test is the newer one. Otherwise the newer one is a copy with a raised version. The
//! copy keeps its `appVersion`, which names an existing image.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ChartError;
use super::{CHART_FILE, Chart};

impl Chart {
    /// Returns this chart with an older one from which releases are upgraded to it.
    #[must_use]
    pub fn with_previous(mut self, previous: Self) -> Self {
        self.previous = Some(Arc::new(previous));
        self
    }

    /// Returns the older version and the newer one.
    pub async fn versions(&self) -> Result<(Arc<Self>, Arc<Self>), ChartError> {
        let this = Arc::new(self.clone());
        if let Some(previous) = &self.previous {
            return Ok((previous.clone(), this));
        }
        let raised = self.raised.get_or_try_init(|| self.raise()).await?;
        let mut newer = self.clone();
        newer.path.clone_from(&raised.chart);
        newer.about.version = raised_version(&self.about.version);
        Ok((this, Arc::new(newer)))
    }

    /// Packages the chart with a higher version.
    async fn raise(&self) -> Result<Raised, ChartError> {
        let folder = tempfile::tempdir().map_err(ChartError::File)?;
        let source = if self.path.is_dir() {
            self.path.clone()
        } else {
            unpack(&self.path, &folder.path().join("source")).map_err(ChartError::File)?
        };
        let mut command = self.helm.command("package");
        command
            .arg(source)
            .arg("--version")
            .arg(raised_version(&self.about.version));
        command.arg("--destination").arg(folder.path());
        self.helm.run(command).await?;
        let chart = packages(folder.path()).map_err(ChartError::File)?;
        let chart = chart.ok_or_else(|| ChartError::File(std::io::Error::other("helm made no package")))?;
        Ok(Raised {
            chart,
            _folder: folder,
        })
    }
}

/// A chart of a higher version. Its folder is removed with it.
#[derive(Debug)]
pub(super) struct Raised {
    chart: PathBuf,
    _folder: tempfile::TempDir,
}

/// Returns the next patch version. For a text that is not a semantic version, returns one that is
/// higher than any.
fn raised_version(version: &str) -> String {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Option<Vec<u64>> = numbers.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([major, minor, patch]) => format!("{major}.{minor}.{}", patch + 1),
        _ => "999.0.0".to_owned(),
    }
}

/// Unpacks a chart's package, and returns the folder with its `Chart.yaml`.
fn unpack(package: &Path, into: &Path) -> std::io::Result<PathBuf> {
    let packed = flate2::read::GzDecoder::new(std::fs::File::open(package)?);
    tar::Archive::new(packed).unpack(into)?;
    let folders = std::fs::read_dir(into)?.flatten().map(|entry| entry.path());
    let mut charts = folders.filter(|folder| folder.join(CHART_FILE).is_file());
    charts
        .next()
        .ok_or_else(|| std::io::Error::other("the package has no folder with a Chart.yaml"))
}

fn packages(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut paths = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(paths.find(|path| path.extension().is_some_and(|ending| ending == "tgz")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_raised_by_one_patch() {
        assert_eq!(raised_version("0.1.9"), "0.1.10");
        assert_eq!(raised_version("1.2.3-rc.1+build"), "1.2.4");
        assert_eq!(raised_version("latest"), "999.0.0");
    }
}
