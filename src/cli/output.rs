//! Answers for people and programs. Decides columns and quoting; computes nothing.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, TableStyle};
use serde_json::Value;

use super::{Failure, Format};

/// One column: its heading, and where its value lies in an item.
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// Field of the item.
    pub field: &'static str,
    /// Numbers stand on the right.
    right: bool,
}

impl Column {
    /// Of text.
    pub const fn left(name: &'static str, field: &'static str) -> Self {
        Self { name, field, right: false }
    }

    /// Of numbers.
    pub const fn right(name: &'static str, field: &'static str) -> Self {
        Self { name, field, right: true }
    }
}

/// A value as a person reads it: numbers short, text as it is.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if !number.is_u64() && !number.is_i64() => trimmed(float),
            _ => number.to_string(),
        },
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn trimmed(float: f64) -> String {
    if float.abs() >= 1e15 || (float != 0.0 && float.abs() < 1e-3) {
        return format!("{float:e}");
    }
    let text = format!("{float:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn exact(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(_) => shown(value),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Prints pages of items as they come.
pub struct Printer {
    format: Format,
    columns: &'static [Column],
    headed: bool,
    table: Table,
}

impl Printer {
    /// For items with these columns.
    pub fn new(format: Format, columns: &'static [Column]) -> Self {
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        table.set_header(columns.iter().map(|column| column.name));
        for (place, column) in columns.iter().enumerate() {
            if let Some(shape) = table.column_mut(place) {
                shape.set_cell_alignment(if column.right { CellAlignment::Right } else { CellAlignment::Left });
            }
        }
        Self { format, columns, headed: false, table }
    }

    /// Prints items.
    pub fn items(&mut self, items: &[Value]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = match self.format {
            Format::Json => items.iter().try_for_each(|item| writeln!(out, "{item}")),
            Format::Csv => self.csv(items, &mut out),
            Format::Table => {
                for item in items {
                    self.table.add_row(self.columns.iter().map(|column| shown(&item[column.field])));
                }
                Ok(())
            }
        };
        done(written)
    }

    fn csv(&mut self, items: &[Value], out: &mut impl Write) -> io::Result<()> {
        if !self.headed {
            self.headed = true;
            writeln!(out, "{}", self.columns.iter().map(|column| column.field).collect::<Vec<_>>().join(","))?;
        }
        items.iter().try_for_each(|item| {
            let fields = self.columns.iter().map(|column| quoted(&exact(&item[column.field])));
            writeln!(out, "{}", fields.collect::<Vec<_>>().join(","))
        })
    }

    /// Ends the answer; `empty` is said to a person if there were no items.
    pub fn end(mut self, empty: &str) -> Result<(), Failure> {
        if self.format == Format::Csv && !self.headed {
            return self.items(&[]);
        }
        if self.format != Format::Table {
            return Ok(());
        }
        if self.table.row_count() == 0 {
            eprintln!("{empty}");
            return Ok(());
        }
        say(&self
            .table
            .to_string()
            .lines()
            .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
            .collect::<Vec<_>>()
            .join("\n"))
    }
}

/// So many of something, as a person says it.
pub fn counted(number: u64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}

/// How this program was called, so that a command which is proposed can be copied: `target/debug/weir` under `cargo run`.
pub fn called() -> String {
    std::env::args().next().filter(|name| !name.is_empty()).unwrap_or_else(|| "weir".into())
}

/// Prints a line. A reader that went away (`| head`) is no failure.
pub fn say(text: &str) -> Result<(), Failure> {
    done(writeln!(io::stdout().lock(), "{text}"))
}

fn done(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(format!("the answer could not be printed: {error}"))),
        Ok(()) => Ok(()),
    }
}
