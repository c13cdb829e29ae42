//! The peers whose connections begin with a header of the PROXY protocol.

use pyo3::prelude::*;

use super::errors::vibora_error;
use super::protocol::Caller;
use crate::http::network::Network;

pub(crate) struct TrustedPeers {
    networks: Vec<Network>,
    unix: bool,
}

impl TrustedPeers {
    /// From what the user lists: networks, addresses, and `unix` for the peers of unix sockets.
    pub(crate) fn new(entries: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = entries.py();
        let mut trusted = Self {
            networks: Vec::new(),
            unix: false,
        };
        for entry in entries.try_iter()? {
            let entry = entry?.str()?;
            let entry = entry.to_str()?;
            if entry == "unix" {
                trusted.unix = true;
                continue;
            }
            let network = Network::parse(entry).map_err(|_| {
                let message = format!(
                    "proxy_protocol takes networks such as \"10.0.0.0/8\", addresses, and \"unix\", got {entry:?}"
                );
                vibora_error(py, "ConfigurationError", (message,))
            })?;
            trusted.networks.push(network);
        }
        Ok(trusted)
    }

    pub(crate) fn contain(&self, caller: &Caller) -> bool {
        match caller.ip() {
            Some(address) => {
                let mut networks = self.networks.iter();
                networks.any(|network| network.contains(address))
            }
            None => self.unix && caller.unix_socket,
        }
    }
}
