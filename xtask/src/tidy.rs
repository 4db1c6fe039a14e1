use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct Tidy {}
impl Tidy {
    pub(crate) fn run(self) -> Result<()> {
        Ok(())
    }
}
