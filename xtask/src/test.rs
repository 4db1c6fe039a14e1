use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct Test {}
impl Test {
    pub(crate) fn run(self) -> Result<()> {
        Ok(())
    }
}
