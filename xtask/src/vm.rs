use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct Vm {}
impl Vm {
    pub(crate) fn run(self) -> Result<()> {
        Ok(())
    }
}
