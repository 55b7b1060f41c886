# cluster-scale
