//! What a process calls itself in the table of leases: for people, who find the machine and the process by it, and another for each opening.

use processor::leases::{Appetite, BRIEF};

/// `HOST:PROCESS:CHANCE`, and whether it is there for a moment only.
pub(crate) fn name(instance: &str, appetite: Appetite) -> String {
    let of_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty()).or_else(of_kernel);
    let host = host.as_deref().map_or("host", str::trim);
    // A name in a table, and in sentences: whatever else is in it would only confuse.
    let host: String =
        host.chars().filter(|char| char.is_ascii_alphanumeric() || "-._".contains(*char)).take(64).collect();
    let brief = if appetite == Appetite::Leftovers { BRIEF } else { "" };
    format!("{host}:{}:{}{brief}", std::process::id(), &instance[..instance.len().min(8)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_machine_and_process_and_is_another_each_time() {
        let name = name("0123456789abcdef", Appetite::Share);
        let parts: Vec<&str> = name.split(':').collect();
        assert_eq!((parts[1], parts[2]), (&*std::process::id().to_string(), "01234567"), "{name}");
        assert_ne!(name, super::name("fedcba9876543210", Appetite::Share));
        assert_eq!(super::name("0123456789abcdef", Appetite::Leftovers), name + ":brief");
    }
}
