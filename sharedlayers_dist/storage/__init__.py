"""Where bytes lie: paths and URIs, whole writes on disks and object stores."""
