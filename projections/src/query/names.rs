//! Which series a query wants, by namespace and metric. Decides once for each series and keeps the answer, because rows repeat their names.

use std::{collections::HashMap, sync::Arc};

use rustc_hash::FxBuildHasher;

use crate::{
    cell::{
        BYTES, Count, LATENCY, WINDOW_SECS,
        visit::{Name, Through, Wanted},
    },
    fold::LINES_PAGE,
    series::{LOGS_NAMESPACE, Series},
};

/// Answers kept; at the limit they are forgotten and found again.
const KNOWN_MAX: usize = 8_192;
const COUNTS: usize = Count::ALL.len();

/// See the module.
pub(super) struct Names {
    namespace: Option<String>,
    metric: Option<String>,
    /// The built-in series by place: counts, latency, bytes.
    builtin: [Option<Arc<Series>>; COUNTS + 2],
    /// In the page of lines.
    wanted: Wanted,
    others: HashMap<Vec<u8>, Option<Arc<Series>>, FxBuildHasher>,
}

impl Names {
    pub(super) fn new(namespace: Option<&str>, metric: Option<&str>) -> Self {
        let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        let wants = |name: &str| fits(namespace, LOGS_NAMESPACE) && fits(metric, name);
        let of = |name: &str, unit: &str| wants(name).then(|| Arc::new(Series::of_logs(name, unit)));
        let mut builtin = [const { None }; COUNTS + 2];
        for count in Count::ALL {
            builtin[count as usize] = of(count.metric(), "Count");
        }
        builtin[COUNTS] = of(LATENCY, "Milliseconds");
        builtin[COUNTS + 1] = of(BYTES, "Bytes");
        let through = match &builtin {
            [.., Some(_)] => Through::Bytes,
            [.., Some(_), _] => Through::Latency,
            _ => Through::Counts,
        };
        let counts = (0..COUNTS).filter(|i| builtin[*i].is_some()).fold(0, |bits, i| bits | 1 << i);
        Self {
            namespace: namespace.map(str::to_owned),
            metric: metric.map(str::to_owned),
            builtin,
            wanted: Wanted { counts, through },
            others: HashMap::default(),
        }
    }

    /// Where in a row it is worth looking. Values from an API, which may have any name, stand on other pages than lines.
    pub(super) fn wanted(&self, page: u16) -> Wanted {
        if page == LINES_PAGE { self.wanted } else { Wanted { through: Through::Others, ..self.wanted } }
    }

    /// The series, if it is wanted. Windows of other lengths than a minute take no part.
    pub(super) fn wants(&mut self, name: Name<'_>) -> Option<Arc<Series>> {
        match name {
            Name::Count(count) => self.builtin[count as usize].clone(),
            Name::Latency => self.builtin[COUNTS].clone(),
            Name::Bytes => self.builtin[COUNTS + 1].clone(),
            Name::Other(_, length) if length != WINDOW_SECS => None,
            Name::Other(series, _) => self.other(series),
        }
    }

    fn other(&mut self, encoded: &[u8]) -> Option<Arc<Series>> {
        if let Some(known) = self.others.get(encoded) {
            return known.clone();
        }
        // Bytes that are no series are passed over here as all that is not wanted: `verify` is who finds them.
        let series = Series::decode(&mut &*encoded).ok().filter(|series| {
            let fits = |wanted: &Option<String>, is: &String| wanted.as_ref().is_none_or(|wanted| wanted == is);
            fits(&self.namespace, &series.namespace) && fits(&self.metric, &series.metric)
        });
        let series = series.map(Arc::new);
        if self.others.len() >= KNOWN_MAX {
            self.others.clear();
        }
        self.others.insert(encoded.to_vec(), series.clone());
        series
    }
}
