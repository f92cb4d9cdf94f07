"""What a laboratory result means, pure: values, units, intervals, flags, matching."""
