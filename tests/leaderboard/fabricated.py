"""Fabricated cases and records: constant offsets, so that every score is known exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from mace_ft_bench.results.case import BulkStructure, Case, Metric, Reference
from mace_ft_bench.results.record import Provenance, Record, Status

STRUCTURE = BulkStructure(element="Mo", lattice="bcc", a=3.169)
SOURCE = "a table"


def make_case(name: str, **changes: Any) -> Case:
    """Return a case with one metric of tolerance 1 and a scored reference."""
    dft = Reference(
        "DFT", "dft", "PBE, VASP", SOURCE, values={"a_angstrom": 3.0}, doi="10.1000/a<b", scored=True, note="A note."
    )
    defaults: dict[str, Any] = {
        "title": f"Title of {name}",
        "property": "relaxation",
        "structure": STRUCTURE,
        "metrics": {"a_percent": Metric("a0", "%", 1.0)},
        "references": (dft,),
        "id": f"mo/{name}",
    }
    return Case(**(defaults | changes))


def make_record(model: str, case: Case, status: Status = "ok", error: float = 0.0, **changes: Any) -> Record:
    """Return a current record whose errors are ``error`` tolerances in every metric."""
    ok = status == "ok"
    record = Record(
        key=f"{model}/{case.id}",
        model=model,
        case=case.id,
        property=case.property,
        case_hash=case.content_hash(),
        status=status,
        message="" if ok else f"It ended {status}. To fix: try again.",
        result={"a_angstrom": 3.0 * (1 + error / 100)} if ok else None,
        errors={name: error * metric.tolerance for name, metric in case.metrics.items()} if ok else {},
        wall_s=10.0,
        provenance=Provenance(
            model_sha256="ab" * 32,
            dtype="float64",
            device="cpu",
            hardware="a processor",
            package_versions={"ase": "3.29"},
        ),
    )
    return replace(record, **changes)


def published(label: str, **changes: Any) -> Reference:
    """Return a published model."""
    return Reference(label, "published_model", "MACE, PBE", SOURCE, **changes)


def elastic_case() -> Case:
    metrics = {f"{name}_percent": Metric(name.upper(), "%", 10.0) for name in ("c11", "c12", "c44")}
    values: dict[str, float | list[float]] = {"c11_gpa": 400.0, "c12_gpa": 200.0, "c44_gpa": 100.0}
    references = (
        Reference("DFT", "dft", "PBE", SOURCE, values=values, scored=True),
        Reference("Experiment", "experiment", "experiment", SOURCE, values={"c11_gpa": 450.0}),
        published("EAM", values={"c11_gpa": 440.0, "c12_gpa": 180.0, "c44_gpa": 100.0, "bulk_modulus_gpa": 266.0}),
        published("MACE-MP-0b3", values={"c11_gpa": 200.0, "c12_gpa": 200.0, "c44_gpa": 50.0}),
    )
    return make_case("elastic", property="elastic", metrics=metrics, references=references)


def gsfe_case() -> Case:
    metrics = {"barrier_j_per_m2": Metric("barrier", "J/m²", 0.2), "curve_rms_j_per_m2": Metric("rms", "J/m²", 0.1)}
    references = (
        Reference("DFT", "dft", "PBE", SOURCE, values={"gamma_j_per_m2": [0.0, 1.0, 1.5, 1.0, 0.0]}, scored=True),
        published("MACE-MP-0b3", errors={"barrier_j_per_m2": 0.2}),
    )
    return make_case("gsfe", property="gsfe", metrics=metrics, references=references)


ELASTIC = {
    "c11_gpa": 440.0,
    "c12_gpa": 200.0,
    "c44_gpa": 100.0,
    "constants_gpa": {"C_11": 440.0},
    "bulk_modulus_gpa": 280.0,
    "poisson_ratio": 0.308,
    "born_stable": True,
}
GSFE = {"displacement": [0, 0.25, 0.5, 0.75, 1], "gamma_j_per_m2": [0, 1.1, 1.6, 1.1, 0], "barrier_j_per_m2": 1.6}
EOS = {
    "v0_angstrom3_per_atom": 15.9,
    "volumes_angstrom3_per_atom": [14.0, 15.0, 16.0, 17.0],
    "energies_ev_per_atom": [-10.0, -10.8, -10.9, -10.5],
}
FRAMES = {
    "overall": {"force_rmse_mev_per_a": 50.0},
    "per_config_type": {},
    "energy_offset_mev_per_atom": 1000.0,
    "energy_pairs_ev_per_atom": [[-10.0, -9.0], [-11.0, -10.01]],
    "force_pairs_ev_per_angstrom": [[math.sin(i), math.sin(i) + 0.1] for i in range(200)],
}
THROUGHPUT = {
    "atoms": [16, 128, 432],
    "median_ms_per_step": [10.0, 60.0, 216.0],
    "median_us_per_atom": [625.0, 468.75, 500.0],
}
PHONONS = {
    "path_distance": [0.0, 0.1, 0.2, 0.2, 0.4],
    "path_thz": [[0.0, 5.0], [1.0, 4.5], [3.0, 4.0], [3.0, 4.0], [-0.5, 5.0]],
    "path_labels": [[0.0, "G"], [0.2, "X"], [0.2, "U"], [0.4, "G"]],
    "dos_thz": [0.0, 2.0, 4.0],
    "dos_states_per_thz_and_atom": [0.0, 0.5, 0.2],
    "lowest_thz": -0.5,
}
SURFACE = {"surface_energy_j_per_m2": 2.1, "unrelaxed_j_per_m2": 2.3}
DEFECT = {"formation_energy_ev": 3.2, "unrelaxed_ev": 4.0}
MIGRATION = {"barrier_ev": 0.5, "path_ev": [0.0, 0.5, 0.0], "path_angstrom": [0.0, 1.0, 2.0]}
DIFFERENCE = {"difference_ev": -0.1, "atoms": 110, "largest_force_ev_per_angstrom": 0.3}
DRIFT = {
    "drift_mev_per_atom_per_ps": 0.1,
    "time_ps": [0.0, 0.5, 1.0],
    "total_energy_mev_per_atom": [0.0, 0.05, 0.1],
}
DYNAMICS = {
    "mean_temperature_k": 301.0,
    "equilibration_ps": 0.5,
    "time_ps": [0.0, 0.5, 1.0],
    "temperature_k": [600.0, 310.0, 290.0],
    "rdf_r_angstrom": [0.5, 1.5, 2.5],
    "rdf": [0.0, 2.0, 1.0],
    "profile_height_angstrom": [1.5, 2.5, 3.5],
    "profile_per_angstrom3": [0.0, 0.1, 0.03],
    "msd_time_ps": [0.1, 0.2],
    "msd_angstrom2": {"H": [0.4, 0.8], "O": [0.1, 0.2]},
}
PHASES = {
    "energy_mev_per_atom": {"ground": 0.0, "bcc": 40.0, "simple_hexagonal": 60.0},
    "volume_angstrom3_per_atom": {"ground": 20.0, "bcc": 18.0, "simple_hexagonal": 17.5},
    "curve_angstrom3_per_atom": {
        "ground": [18.0, 20.0, 22.0],
        "bcc": [16.0, 18.0, 20.0],
        "simple_hexagonal": [15.5, 17.5, 19.5],
    },
    "curve_mev_per_atom": {
        "ground": [50.0, 0.0, 50.0],
        "bcc": [90.0, 40.0, 90.0],
        "simple_hexagonal": [110.0, 60.0, 110.0],
    },
}
FORMATION = {
    "formation_energy_ev": {"XT": 5.0, "TT": 7.0},
    "unrelaxed_ev": {"XT": 6.0, "TT": 8.0},
    "largest_displacement_angstrom": {"XT": 0.1, "TT": 0.2},
}
BOUNDARY = {"boundary_energy_j_per_m2": 0.9, "unrelaxed_j_per_m2": 1.1, "atoms": 48}
PAIRS = {
    "flips_per_pair": 0.5,
    "core_percent": 0.0,
    "tortuosity": 0.1,
    "distance_angstrom": {"Li-Li": [1.0, 2.0, 3.0], "Li-S": [1.0, 2.0, 3.0]},
    "energy_ev": {"Li-Li": [50.0, -1.0, 0.0], "Li-S": [40.0, -3.0, 0.0]},
}
