//! Pipelines, core maps and measurements, as the command line names them.

use std::path::Path;

use clap::ValueEnum;
use corelane::graph::{PipelineGraph, ValidatedGraph, ValidationContext};
use corelane::policy::PolicyRegistry;
use corelane::topology::{CoreLinks, CoreMap, CoreMapParseErrors};

use super::{MapError, Where};
use crate::args::JobArg;
use crate::c2c::stored;
use crate::check::{self, Problems};
use crate::config::{ConfigError, read_config};
use crate::tune::{
    self,
    load::{KeyedLoad, Load},
};

/// The graph of a job, of what else can be tuned, or of a file.
pub(super) fn pipeline(place: &Where) -> Result<ValidatedGraph, MapError> {
    if let Ok(job) = JobArg::from_str(&place.pipeline, false) {
        let config = check::load(&place.config)?;
        let pipeline = check::build(job, config.clone());
        let pipeline = pipeline.map_err(|errors| Problems::of_graph(&config, &errors))?;
        return Ok(pipeline.validated().clone());
    }
    let path = Path::new(&place.pipeline);
    if place.pipeline == tune::Pipeline::Keyed.name() && !path.is_file() {
        return Ok(KeyedLoad::default().graph()?);
    }
    // One in a directory that may not be read is there, for all that is known.
    if matches!(path.try_exists(), Ok(false)) {
        return Err(MapError::NoPipeline(place.pipeline.clone()));
    }
    let text = read_config(path)?;
    let invalid = |message: String| ConfigError::Invalid { path: path.to_path_buf(), message };
    let graph = if text.trim_start().starts_with('{') {
        PipelineGraph::from_json(&text)
    } else {
        PipelineGraph::from_toml(&text)
    };
    let graph = graph.map_err(|error| invalid(error.to_string()))?;
    // Where it may spill to is a matter of the program that runs it.
    let context = ValidationContext { spill_dir: true, ..ValidationContext::default() };
    let valid = graph.validate(&PolicyRegistry::default(), &context);
    Ok(valid.map_err(|errors| invalid(errors.to_string()))?)
}

/// What was measured between cores, if a file was given.
pub(super) fn links(place: &Where) -> Result<Option<CoreLinks>, MapError> {
    Ok(place.links.as_deref().map(stored).transpose()?)
}

/// A core map and the text it was read from.
pub(crate) struct GivenMap {
    pub(crate) map: CoreMap,
    text: String,
    /// The file, unless it stood in the command line.
    file: Option<String>,
}

impl GivenMap {
    /// A file of that name, or else the line itself if it has an equals sign.
    pub(crate) fn new(given: &str) -> Result<Self, MapError> {
        let path = Path::new(given);
        let refused = |errors: &CoreMapParseErrors, file: Option<&str>| {
            let file = file.map(|file| format!("{file}: ")).unwrap_or_default();
            MapError::Map(errors.iter().map(|error| format!("{file}{error}")).collect())
        };
        if given.contains('=') && !path.exists() {
            let map = given.parse().map_err(|errors| refused(&errors, None))?;
            return Ok(Self { map, text: given.to_owned(), file: None });
        }
        let text = read_config(path)?;
        let map = CoreMap::from_toml(&text).map_err(|errors| refused(&errors, Some(given)))?;
        Ok(Self { map, text, file: Some(given.to_owned()) })
    }

    /// Each problem with the place of the entry that it is about.
    pub(super) fn with_places(&self, problems: &[(Option<String>, String)]) -> Vec<String> {
        let places = CoreMap::places(&self.text);
        let file = self.file.as_deref().unwrap_or("the core map");
        let placed = |(field, problem): &(Option<String>, String)| {
            let place = field.as_ref().and_then(|field| places.get(field)?.at);
            match place {
                Some((line, column)) => format!("{file}: line {line}, column {column}: {problem}"),
                None => format!("{file}: {problem}"),
            }
        };
        problems.iter().map(placed).collect()
    }
}
