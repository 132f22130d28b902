"""What another policy would have earned, from a log of decisions: estimates, intervals, and when to doubt them."""

from armfold.core.ope.estimate import Estimate
from armfold.core.ope.interval import Interval, bootstrap, empirical_bernstein, normal
from armfold.core.ope.logs import check_logged, check_target
from armfold.core.ope.model import direct_method, doubly_robust, ridge_model, switch_dr
from armfold.core.ope.overlap import Overlap, overlap
from armfold.core.ope.replay import replay
from armfold.core.ope.weighting import effective_sample_size, ips, snips, weights

__all__ = [
    "Estimate",
    "Interval",
    "Overlap",
    "bootstrap",
    "check_logged",
    "check_target",
    "direct_method",
    "doubly_robust",
    "effective_sample_size",
    "empirical_bernstein",
    "ips",
    "normal",
    "overlap",
    "replay",
    "ridge_model",
    "snips",
    "switch_dr",
    "weights",
]
