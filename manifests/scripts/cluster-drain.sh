# cluster-drain
